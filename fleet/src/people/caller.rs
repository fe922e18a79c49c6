use serde::{Deserialize, Serialize};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum May {
    /// Look, and have plans made.
    Read,
    /// Start, pause, resume, abort, retry, create, and hand in approvals, too.
    Act,
}

/// How somebody showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a session of the page. The browser adds it to whatever request another site makes.
    Session,
    /// By a token, which no other site knows.
    Token,
    /// By the proxy in front; as with a session, the browser may be another site's tool.
    Proxy,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name that events have.
    pub name: String,
    /// What they may do.
    pub may: May,
    /// How they showed it.
    pub way: Way,
}

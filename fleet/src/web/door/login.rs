use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use thiserror::Error;

use super::keys::Shown;
use super::{Door, secret};
use crate::people::{LIFE, Password, RegisterError, hex};

/// Why nobody is logged in.
#[derive(Debug, Error)]
pub(in crate::web) enum Refused {
    /// The request is not the page's own.
    #[error("the form came from another site; open this page itself, and log in there")]
    NotOwn,
    /// Too many tries.
    #[error("too many tries: wait {} s, then try again", .0.as_secs() + 1)]
    Wait(Duration),
    /// Wrong, or nobody of this name: it is not said which.
    #[error("name or password is wrong")]
    Wrong,
    /// The people cannot be read.
    #[error("the people cannot be read: {0}; see the program's log")]
    Register(#[from] RegisterError),
}

impl Door {
    /// Begins a session, and returns the cookie for it. A session of before ends: nobody can have
    /// prepared the one that a person gets.
    pub(in crate::web) async fn log_in(
        self: &Arc<Self>,
        shown: &Shown<'_>,
        name: &str,
        password: String,
    ) -> Result<HeaderValue, Refused> {
        if !shown.is_own() {
            return Err(Refused::NotOwn);
        }
        let from = shown.address();
        self.throttle().admit(name, from, self.now()).map_err(Refused::Wait)?;
        let roster = self.register.read()?;
        let kept = roster.person(name).map(|person| person.password.clone());
        let permit = self.comparing.acquire().await;
        let compare = move || Password::check(kept.as_ref(), &password);
        let is_right = tokio::task::spawn_blocking(compare).await.unwrap_or(false);
        drop(permit);
        let (true, Some(person)) = (is_right, roster.person(name)) else {
            return Err(Refused::Wrong);
        };
        self.throttle().succeeded(name, from);
        if let Some(before) = shown.session() {
            self.sessions().end(&before);
        }
        let secret = secret();
        self.sessions().begin(person, &secret, self.now());
        Ok(self.cookie(&hex(&secret), LIFE))
    }

    /// Ends the session, and returns the cookie that takes it from the browser.
    pub(in crate::web) fn log_out(&self, shown: &Shown<'_>) -> HeaderValue {
        if let Some(secret) = shown.session() {
            self.sessions().end(&secret);
        }
        self.cookie("", Duration::ZERO)
    }

    fn cookie(&self, value: &str, age: Duration) -> HeaderValue {
        let secure = if self.front.is_some() { "; Secure" } else { "" };
        let (name, age_s) = (self.cookie_name(), age.as_secs());
        let text =
            format!("{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }
}

//! What all pages have around them.

use std::time::{Duration, UNIX_EPOCH};

use firmcast_manager::clock::rfc3339;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::assets::{SCRIPT, STYLE};
use super::limits::RELOAD_S;
use crate::model::{EventId, Stamp};

/// The pages that every page leads to.
const NAVIGATION: [(&str, &str); 3] =
    [("/", "Rollouts"), ("/events", "Events"), ("/calls", "Calls for help")];

/// What differs around the pages.
pub(super) struct Frame<'a> {
    /// The title.
    pub(super) title: &'a str,
    /// How the page stays true.
    pub(super) stays: Stays,
}

/// How a page stays true.
pub(super) enum Stays {
    /// As it is.
    AsItIs,
    /// By loading it again after so many seconds.
    Reloaded(u32),
    /// By news that come after this event; without script it is loaded again.
    Live(EventId),
}

impl Frame<'_> {
    /// Returns the whole page around its main part.
    pub(super) fn around(&self, main: &Markup) -> Markup {
        let after = match self.stays {
            Stays::Live(after) => Some(after),
            Stays::AsItIs | Stays::Reloaded(_) => None,
        };
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) " - firmcast fleet" }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(STYLE);
                    @match self.stays {
                        Stays::AsItIs => {}
                        Stays::Reloaded(seconds) => meta http-equiv="refresh" content=(seconds);,
                        Stays::Live(_) => {
                            script src=(SCRIPT) defer {}
                            noscript { meta http-equiv="refresh" content=(RELOAD_S); }
                        }
                    }
                }
                body data-after=[after] {
                    a.skip href="#main" { "Skip to the content" }
                    header {
                        nav aria-label="Pages" {
                            ul { @for (path, name) in NAVIGATION {
                                li { a href=(path) { (name) } }
                            } }
                        }
                    }
                    p #banner role="status" {}
                    p #news role="status" {}
                    main #main tabindex="-1" { (PreEscaped(&main.0)) }
                }
            }
        }
    }
}

/// Returns a page that stays as it is.
pub(super) fn framed(title: &str, main: &Markup) -> Markup {
    Frame { title, stays: Stays::AsItIs }.around(main)
}

/// Returns a time for people and programs.
pub(super) fn time(at: Stamp) -> Markup {
    let at = u64::try_from(at).unwrap_or_default();
    let text = rfc3339(UNIX_EPOCH + Duration::from_micros(at));
    html! { time datetime=(text) { (text) } }
}

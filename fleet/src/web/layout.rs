//! What all pages have around them.

use std::time::{Duration, UNIX_EPOCH};

use firmcast_manager::clock::rfc3339;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::assets::{SCRIPT, STYLE};
use crate::model::Stamp;

/// What differs around the pages.
pub(super) struct Frame<'a> {
    /// The title.
    pub(super) title: &'a str,
    /// After how many seconds the page is loaded again, script or not.
    pub(super) refresh_s: Option<u32>,
}

impl Frame<'_> {
    /// Returns the whole page around its main part.
    pub(super) fn around(&self, main: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) " - firmcast fleet" }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(STYLE.path);
                    script src=(SCRIPT.path) defer {}
                    @if let Some(seconds) = self.refresh_s {
                        meta http-equiv="refresh" content=(seconds);
                    }
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    header {
                        nav aria-label="Pages" {
                            ul { li { a href="/" { "Rollouts" } } }
                        }
                    }
                    main id="main" tabindex="-1" { (PreEscaped(&main.0)) }
                }
            }
        }
    }
}

/// Returns a time for people and programs.
pub(super) fn time(at: Stamp) -> Markup {
    let at = u64::try_from(at).unwrap_or_default();
    let text = rfc3339(UNIX_EPOCH + Duration::from_micros(at));
    html! { time datetime=(text) { (text) } }
}

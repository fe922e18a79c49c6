//! What several pages have.

use maud::{Markup, html};

use crate::model::Event;
use crate::picture::mark::Mark;
use crate::picture::words::word;
use crate::web::layout::time;
use crate::web::link;

/// Returns a part of a page that is read anew from `link` when one of the topics is told.
pub(super) fn live(topics: &str, link: &str, inside: &Markup) -> Markup {
    html! { div data-topics=(topics) data-part=(link) { (*inside) } }
}

/// Returns a mark: its letter in its colour, then what it means.
pub(super) fn mark(mark: Mark) -> Markup {
    html! { span.key.(mark.class()) aria-hidden="true" { (mark.letter()) } " " (mark.words()) }
}

/// Returns what a person may type.
pub(super) fn typed(command: &str) -> Markup {
    html! { code.typed tabindex="0" { (command) } }
}

/// Returns a bar that is full at 1000; who cannot see it reads the words beside it.
pub(super) fn bar(permille: u32, class: &str) -> Markup {
    let width = f64::from(permille.min(1000)) / 10.0;
    html! {
        svg.bar.(class) aria-hidden="true" width="120" height="12" {
            rect width={ (width) "%" } height="12" {}
        }
    }
}

/// Returns events as a table, each with the name of its rollout.
pub(super) fn events(events: &[(Event, String)]) -> Markup {
    html! {
        table {
            thead { tr {
                @for head in ["Time", "Rollout", "Host", "What", "Details", "By"] {
                    th scope="col" { (head) }
                }
            } }
            tbody { @for (event, rollout) in events { tr {
                td { (time(event.at)) }
                td { @if !rollout.is_empty() { a href=(link::rollout(rollout)) { (rollout) } } }
                td { @if let Some(host) = &event.host { a href=(link::host(host)) { (host) } } }
                td { (word(event.kind)) }
                td { (event.detail) }
                td { (event.by) }
            } } }
        }
    }
}

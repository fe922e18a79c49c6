//! Dead hosts that call for help, as the workers know them that answer them.

use axum::extract::State;
use maud::{Markup, html};

use super::parts::typed;
use crate::model::{Call, Stamp};
use crate::picture::call::{calling, does, found, to_do};
use crate::picture::words::span;
use crate::web::layout::{Frame, Stays};
use crate::web::limits::{CALLS_SHOWN_MAX, RELOAD_S};
use crate::web::link;
use crate::web::pool::now;
use crate::web::site::Site;
use crate::web::trouble::Trouble;

pub(in crate::web) async fn page(State(site): State<Site>) -> Result<Markup, Trouble> {
    let now = now();
    let calls = site.store.ask(move |store| store.calls(now)).await?;
    let frame = Frame { title: "Calls for help", stays: Stays::Reloaded(RELOAD_S) };
    Ok(frame.around(&html! {
        h1 { "Calls for help" }
        (table(&calls, now))
    }))
}

const HEADS: [&str; 7] = ["Host", "Site", "Heard", "From", "Firmware", "Does", "What to do"];

fn table(calls: &[Call], now: Stamp) -> Markup {
    html! {
        @if calls.is_empty() { p { "No dead host calls for help." } } @else {
            p { (calling(calls.len())) "." }
            table {
                thead { tr {
                    @for head in HEADS { th scope="col" { (head) } }
                } }
                tbody { @for call in calls.iter().take(CALLS_SHOWN_MAX) { (row(call, now)) } }
            }
            @if calls.len() > CALLS_SHOWN_MAX {
                p { "All of them: " code { "/api/v1/calls" } }
            }
        }
    }
}

fn row(call: &Call, now: Stamp) -> Markup {
    let (advice, command) = to_do(call);
    html! { tr {
        th scope="row" { a href=(link::host(&call.host)) { (call.host) } }
        td { (call.site) }
        td { (span(now.saturating_sub(call.heard_at).max(0))) " ago, by " (call.worker) }
        td { (call.address) }
        td { (found(call)) }
        td { (does(call)) }
        td { (advice) @if let Some(command) = command { " " (typed(&command)) } }
    } }
}

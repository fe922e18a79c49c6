//! Dead hosts that call for help, as the service says that answers them.

use axum::extract::State;
use firmcast_manager::rescue::Snapshot;
use firmcast_manager::rescue::snapshot::HostStatus;
use maud::{Markup, html};

use super::parts::typed;
use crate::picture::words::span;
use crate::web::layout::{Frame, Stays};
use crate::web::limits::{CALLS_SHOWN_MAX, RELOAD_S};
use crate::web::site::Site;
use crate::web::status;

pub(in crate::web) async fn page(State(site): State<Site>) -> Markup {
    let frame = |stays| Frame { title: "Calls for help", stays };
    let Some(socket) = site.status else {
        return frame(Stays::AsItIs).around(&html! {
            h1 { "Calls for help" }
            p {
                "This page does not know where the service is that answers dead hosts. Start it "
                "with " code { "--status" } " and the socket of " code { "firmcast serve" }
                ", which is " code { "serve.sock" } " in its state directory."
            }
        });
    };
    let answer = status::ask(&socket).await;
    frame(Stays::Reloaded(RELOAD_S)).around(&html! {
        h1 { "Calls for help" }
        @match answer {
            Ok(snapshot) => { (calls(&snapshot)) }
            Err(problem) => { p.problem { (problem) } }
        }
    })
}

fn calls(snapshot: &Snapshot) -> Markup {
    let hosts = &snapshot.hosts;
    html! {
        @if hosts.is_empty() { p { "Nobody calls." } } @else {
            p { (hosts.len()) " hosts have called since the service was started." }
            table {
                thead { tr {
                    @for head in ["Host", "Heard", "From", "Board", "Firmware", "Does", "Last"] {
                        th scope="col" { (head) }
                    }
                } }
                tbody { @for host in hosts.iter().take(CALLS_SHOWN_MAX) { (row(host)) } }
            }
            @if hosts.len() > CALLS_SHOWN_MAX {
                p { "All of them: " (typed("firmcast status")) }
            }
        }
    }
}

fn row(host: &HostStatus) -> Markup {
    let silent_us = i64::try_from(host.silent_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    html! { tr {
        th scope="row" {
            (host.host)
            @if !host.known { " (not in the inventory)" }
            @if host.conflict { " (several machines have its key)" }
        }
        td { (span(silent_us)) " ago" }
        td { (host.address) }
        td { (host.vendor) " " (host.product) }
        td { (host.finding) @if !host.why.is_empty() { ": " (host.why) } }
        td {
            (host.stage) " " (host.phase)
            @if host.total > 0 { " " (host.done) " of " (host.total) }
            @if host.parked { ", left alone" }
            @if let Some(why) = &host.held { ", put off: " (why) }
        }
        td { @if let Some(last) = &host.last { (last.reason) } }
    } }
}

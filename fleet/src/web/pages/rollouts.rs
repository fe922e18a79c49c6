//! The list of rollouts.

use axum::extract::State;
use maud::{Markup, html};

use super::parts::live;
use crate::picture::overview::Headline;
use crate::picture::words::word;
use crate::picture::{call, gather};
use crate::store::Store;
use crate::web::layout::{Frame, Stays, time};
use crate::web::link;
use crate::web::pool::now;
use crate::web::query::{Asked, Whole};
use crate::web::site::Site;
use crate::web::trouble::Trouble;

/// The list, or what stands in it.
pub(in crate::web) async fn page(
    State(site): State<Site>,
    Asked(whole): Asked<Whole>,
) -> Result<Markup, Trouble> {
    let after = site.live.last();
    let read =
        |store: &mut dyn Store| Ok((gather::overview(store)?, gather::calling(store, now())?));
    let (lines, calling) = site.store.ask(read).await?;
    let table = table(&lines, calling);
    if whole.is_part() {
        return Ok(table);
    }
    let frame = Frame { title: "Rollouts", stays: Stays::Live(after) };
    Ok(frame.around(&html! {
        h1 { "Rollouts" }
        (live("all", "/?part=list", &table))
    }))
}

fn table(lines: &[Headline], calling: usize) -> Markup {
    html! {
        @if calling > 0 {
            p.problem { a href="/calls" { (call::calling(calling)) } }
        }
        @if lines.is_empty() {
            p { "There is none yet. Make one with " code { "firmcast-fleet rollout create" } "." }
        } @else {
            table {
                thead { tr {
                    @for head in ["Rollout", "State", "Version", "Hosts", "Created", "By", "Why"] {
                        th scope="col" { (head) }
                    }
                } }
                tbody { @for line in lines { (row(line)) } }
            }
        }
    }
}

fn row(line: &Headline) -> Markup {
    html! { tr {
        th scope="row" { a href=(link::rollout(&line.name)) { (line.name) } }
        td { (word(line.state)) }
        td { (line.version) }
        td { (line.progress.percent()) " %: " (line.progress.words()) }
        td { (time(line.created_at)) }
        td { (line.created_by) }
        td { (line.reason) }
    } }
}

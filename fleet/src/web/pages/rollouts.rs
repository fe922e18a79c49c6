//! The list of rollouts.

use std::collections::VecDeque;

use axum::extract::State;
use maud::{Markup, html};

use crate::model::Rollout;
use crate::store::requests::PAGE_MAX;
use crate::store::{Store, StoreError, word};
use crate::web::layout::{Frame, time};
use crate::web::limits::ROLLOUTS_MAX;
use crate::web::site::Site;
use crate::web::trouble::Trouble;

pub(in crate::web) async fn page(State(site): State<Site>) -> Result<Markup, Trouble> {
    let rollouts = site.store.ask(newest).await?;
    let frame = Frame { title: "Rollouts", refresh_s: None };
    Ok(frame.around(&html! {
        h1 { "Rollouts" }
        @if rollouts.is_empty() {
            p { "There is none yet. Make one with " code { "firmcast-fleet rollout create" } "." }
        } @else {
            table {
                thead { tr {
                    th scope="col" { "Name" }
                    th scope="col" { "State" }
                    th scope="col" { "Created" }
                    th scope="col" { "By" }
                    th scope="col" { "Why" }
                } }
                tbody { @for rollout in &rollouts { (row(rollout)) } }
            }
        }
    }))
}

fn row(rollout: &Rollout) -> Markup {
    html! { tr {
        th scope="row" { (rollout.name) }
        td { (word(&rollout.state)) }
        td { (time(rollout.created_at)) }
        td { (rollout.created_by) }
        td { (rollout.reason) }
    } }
}

/// The newest rollouts, those first that were created last.
fn newest(store: &mut dyn Store) -> Result<VecDeque<Rollout>, StoreError> {
    let mut newest = VecDeque::new();
    loop {
        let after = newest.front().map_or(0, |last: &Rollout| last.id);
        let page = store.rollouts(after, PAGE_MAX)?;
        if page.is_empty() {
            return Ok(newest);
        }
        for rollout in page {
            newest.push_front(rollout);
        }
        newest.truncate(ROLLOUTS_MAX);
    }
}

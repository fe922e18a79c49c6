//! One rollout: what happens next, its waves, its limits, its hosts.

use axum::extract::State;
use maud::{Markup, html};

use super::grid::{Shown, grid};
use super::parts::{bar, live, typed};
use crate::picture::budget::{Bar, Budget, Then};
use crate::picture::rollout::RolloutPicture;
use crate::picture::seen::Seen;
use crate::picture::wave::WavePicture;
use crate::picture::words::{span, word};
use crate::web::layout::{Frame, Stays, time};
use crate::web::link;
use crate::web::pool::now;
use crate::web::query::{Asked, Named};
use crate::web::site::Site;
use crate::web::trouble::Trouble;

/// The page, or one of its two parts.
pub(in crate::web) async fn page(
    State(site): State<Site>,
    Asked(query): Asked<Named>,
) -> Result<Markup, Trouble> {
    let (after, seen) = (site.live.last(), site.seen.clone());
    let name = query.name.clone();
    let page = site.store.ask(move |store| {
        let seen = seen.rollout(store, &query.name)?;
        // Made here, as a large grid takes its time.
        Ok(seen.map(|seen| made(&seen, &query, after)))
    });
    page.await?.ok_or_else(|| Trouble::NotFound { what: format!("rollout {name:?}") })
}

fn made(seen: &Seen, query: &Named, after: i64) -> Markup {
    let shown = Shown { name: &query.name, site: &query.site, mark: &query.mark };
    match query.part.as_deref() {
        Some("summary") => return summary(&RolloutPicture::new(seen, now())),
        Some(_) => return grid(seen, &shown, now()),
        None => {}
    }
    let picture = RolloutPicture::new(seen, now());
    let (id, name) = (seen.found.rollout.id, &picture.headline.name);
    let link = link::rollout(name);
    let topics = format!("rollout-{id}");
    let title = format!("Rollout {name}");
    let frame = Frame { title: &title, stays: Stays::Live(after) };
    frame.around(&html! {
        h1 { "Rollout " (name) }
        (live(&topics, &format!("{link}&part=summary"), &summary(&picture)))
        p {
            a href={ "/events?rollout=" (link::part(name)) } { "Events of this rollout" } " "
            a href=(link::act(name)) { "Start, pause, abort" }
        }
        h2 #hosts { "Hosts" }
        (shown.filter(seen))
        div data-cells=(id) {
            (live(&format!("grid-{id}"), &shown.link("grid"), &grid(seen, &shown, now())))
        }
    })
}

fn summary(picture: &RolloutPicture) -> Markup {
    let headline = &picture.headline;
    let state = word(headline.state);
    html! {
        p.state data-say={ "The rollout is " (state) " now." } {
            strong.(state) { (state) }
            @if !headline.reason.is_empty() { ": " (headline.reason) }
        }
        section aria-labelledby="next" {
            h2 #next { "What happens next" }
            ul { @for next in &picture.next { li {
                (next.words)
                @if let Some(command) = &next.command { ": " (typed(command)) }
            } } }
        }
        section aria-labelledby="waves" {
            h2 #waves { "Waves" }
            p {
                (bar(headline.progress.percent() as u32 * 10, "progress")) " "
                (headline.progress.percent()) " % of " (headline.progress.total())
                " hosts have ended: " (headline.progress.words())
            }
            (waves(&picture.waves))
        }
        section aria-labelledby="limits" {
            h2 #limits { "Limits" }
            @if picture.budgets.is_empty() { p { "It has none." } } @else {
                ul.budgets { @for budget in &picture.budgets { (limit(budget)) } }
            }
        }
        section aria-labelledby="about" {
            h2 #about { "About it" }
            dl {
                dt { "Version" } dd { (headline.version) }
                dt { "Created" } dd { (time(headline.created_at)) " by " (headline.created_by) }
                dt { "Release" } dd { code { (picture.release) } }
                dt { "Plan" } dd { code { (picture.plan_digest) } }
            }
        }
    }
}

fn waves(waves: &[WavePicture]) -> Markup {
    html! {
        table {
            thead { tr {
                @for head in ["Wave", "State", "Since", "Hosts", "Watched for", "Begins"] {
                    th scope="col" { (head) }
                }
            } }
            tbody { @for wave in waves { tr {
                th scope="row" { (wave.name) }
                td { (word(wave.state)) }
                td { (time(wave.since)) }
                td { (wave.progress.percent()) " %: " (wave.progress.words()) }
                td { (span(i64::from(wave.soak_s) * 1_000_000)) }
                td { (match wave.approval {
                    crate::model::Approval::Automatic => "by itself",
                    crate::model::Approval::Person => "when a person has approved it",
                }) }
            } } }
        }
    }
}

fn limit(budget: &Budget) -> Markup {
    let class = match budget.then {
        Then::Wait => "wait",
        Then::Pause => "pause",
        Then::Stop => "stop",
    };
    html! { li {
        (budget.words)
        ul { @for each in &budget.bars { li { (filled(each, class)) } } }
        @if budget.others > 0 { p { "and " (budget.others) " more, further from the limit" } }
    } }
}

fn filled(each: &Bar, class: &str) -> Markup {
    html! { (bar(each.filled_permille(), class)) " " (each.domain) ": " (each.words) }
}

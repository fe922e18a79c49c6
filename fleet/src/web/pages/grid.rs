//! The hosts of a rollout by site and rack.

use maud::{Markup, PreEscaped, html};

use crate::model::Stamp;
use crate::picture::grid::{Cell, Grid, Rack, Site};
use crate::picture::mark::{Mark, Tally};
use crate::picture::seen::Seen;
use crate::web::limits::{CELLS_MAX, STRIP_CELLS_MAX};
use crate::web::link;

/// Which hosts are shown.
pub(super) struct Shown<'a> {
    /// Name of the rollout.
    pub(super) name: &'a str,
    /// Only this site; empty for all.
    pub(super) site: &'a str,
    /// Only this mark, by its class; empty for all.
    pub(super) mark: &'a str,
}

impl Shown<'_> {
    /// Returns the link to a part of the page that shows the same hosts.
    pub(super) fn link(&self, part: &str) -> String {
        let (site, mark) = (link::part(self.site), link::part(self.mark));
        format!("{}&part={part}&site={site}&mark={mark}", link::rollout(self.name))
    }

    /// Returns the form that chooses.
    pub(super) fn filter(&self, seen: &Seen) -> Markup {
        let mut sites: Vec<&str> = seen.attempts.iter().map(|each| each.site.as_str()).collect();
        sites.sort_unstable();
        sites.dedup();
        html! {
            form method="get" action="/rollout#hosts" {
                input type="hidden" name="name" value=(self.name);
                label { "Site " select name="site" {
                    option value="" { "all" }
                    @for site in sites {
                        option value=(site) selected[site == self.site] { (site) }
                    }
                } }
                " "
                label { "Stage " select name="mark" {
                    option value="" { "all" }
                    @for mark in Mark::ALL {
                        option value=(mark.class()) selected[mark.class() == self.mark] {
                            (mark.words())
                        }
                    }
                } }
                " "
                button { "Show" }
            }
        }
    }

    fn has_site(&self, site: &Site<'_>) -> bool {
        self.site.is_empty() || site.name == self.site
    }

    fn has(&self, cell: &Cell<'_>) -> bool {
        self.mark.is_empty() || cell.mark.class() == self.mark
    }
}

/// Returns the legend, and a cell for each host; for each rack where those are too many.
pub(super) fn grid(seen: &Seen, shown: &Shown<'_>, now: Stamp) -> Markup {
    let grid = Grid::new(seen, now);
    let sites = || grid.sites.iter().filter(|site| shown.has_site(site));
    let racks = sites().flat_map(|site| &site.racks);
    let cells: usize =
        racks.map(|rack| rack.cells.iter().filter(|cell| shown.has(cell)).count()).sum();
    html! {
        (legend(&grid.tally, shown))
        p { (cells) " of " (grid.tally.total()) " hosts are shown." }
        @if cells > CELLS_MAX {
            p { "These are too many for a cell each: choose a site or a stage." }
        }
        @for site in sites() {
            section.site aria-label={ "Site " (site.name) } {
                h3 { "Site " (named(site.name)) }
                @for rack in &site.racks { (whole(rack, shown, cells <= CELLS_MAX)) }
            }
        }
    }
}

fn legend(tally: &Tally, shown: &Shown<'_>) -> Markup {
    let link = |mark: Mark| {
        let (site, name) = (link::part(shown.site), link::rollout(shown.name));
        format!("{name}&site={site}&mark={}#hosts", mark.class())
    };
    html! {
        ul.legend aria-label="Legend" { @for mark in Mark::ALL { li {
            span.key.(mark.class()) { (mark.letter()) } " "
            a href=(link(mark)) { (mark.words()) } ": " (tally.of(mark))
        } } }
    }
}

fn whole(rack: &Rack<'_>, shown: &Shown<'_>, each: bool) -> Markup {
    let cells: Vec<&Cell<'_>> = rack.cells.iter().filter(|cell| shown.has(cell)).collect();
    html! {
        @if !cells.is_empty() {
            h4 { "Rack " (named(rack.name)) }
            @if each {
                div.cells { @for cell in cells { (PreEscaped(link_of(cell))) } }
            } @else {
                p.cells aria-hidden="true" {
                    @for mark in rack.tally.strip(STRIP_CELLS_MAX) {
                        span.(mark.class()) { (mark.letter()) }
                    }
                }
                p { (tallied(&rack.tally)) }
            }
        }
    }
}

/// Returns a cell. Ten thousand of these are most of a page: nothing is in it twice but the name.
fn link_of(cell: &Cell<'_>) -> String {
    let label = html! { (cell.host) };
    let (class, letter, words) = (cell.mark.class(), cell.mark.letter(), cell.mark.words());
    let (href, label) = (link::host(cell.host), label.0);
    format!("<a class=\"{class}\" href=\"{href}\" aria-label=\"{label}: {words}\">{letter}</a>")
}

fn tallied(tally: &Tally) -> String {
    let parts: Vec<String> =
        tally.iter().map(|(mark, count)| format!("{count} {}", mark.words())).collect();
    parts.join("; ")
}

fn named(name: &str) -> &str {
    if name.is_empty() { "(without a name)" } else { name }
}

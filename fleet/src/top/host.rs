//! One host.

use jiff::tz::TimeZone;
use ratatui::text::Line;

use super::paint::{STRONG, wrapped};
use crate::model::Event;
use crate::picture::host::{AttemptPicture, HostPicture};
use crate::picture::words::{moment, shown, span, word};

/// Returns all lines, of which the screen shows some.
pub(super) fn sheet(picture: &HostPicture, events: &[Event], columns: usize) -> Vec<Line<'static>> {
    let mut sheet = Sheet { lines: Vec::new(), columns };
    let host = &picture.host;
    let mark = picture.mark.map_or("no rollout has it", |mark| mark.words());
    sheet.strong(&format!("{}: {mark}", host.name));
    sheet.fact("flash", &picture.flash.holds);
    sheet.fact("reset", &picture.flash.reset);
    if !picture.advice.is_empty() {
        sheet.fact("to do", &picture.advice);
    }
    if let Some(command) = &picture.command {
        sheet.strong(&format!("        $ {command}"));
    }
    sheet.fact("board", &format!("{} {}", host.vendor, host.product));
    let (bios, agent) = (known(&host.bios_version), known(&host.agent_version));
    sheet.fact("version", &format!("firmware {bios}, agent {agent}"));
    let labels = host.labels.iter().map(|(name, value)| format!("{name}={value}"));
    sheet.fact("labels", &labels.collect::<Vec<_>>().join(" "));
    let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
    sheet.fact("address", &addresses.join(" "));
    for attempt in &picture.attempts {
        sheet.attempt(attempt);
    }
    if !events.is_empty() {
        sheet.strong("what happened, the last first (UTC)");
    }
    for event in events {
        let at = moment(event.at, &TimeZone::UTC);
        sheet.plain(&format!("{at} {} {} (by {})", word(event.kind), event.detail, event.by));
    }
    sheet.lines
}

fn known(version: &str) -> &str {
    if version.is_empty() { "unknown" } else { version }
}

struct Sheet {
    lines: Vec<Line<'static>>,
    columns: usize,
}

impl Sheet {
    fn plain(&mut self, text: &str) {
        self.lines.extend(wrapped(text, self.columns, 8).into_iter().map(Line::from));
    }

    fn strong(&mut self, text: &str) {
        let lines = wrapped(text, self.columns, 8).into_iter();
        self.lines.extend(lines.map(|line| Line::styled(line, STRONG)));
    }

    fn fact(&mut self, name: &str, text: &str) {
        self.plain(&format!("{name:8}{}", shown(text)));
    }

    fn attempt(&mut self, picture: &AttemptPicture) {
        let attempt = &picture.attempt;
        let retry = match attempt.retry {
            0 => String::new(),
            retry => format!(", retry {retry}"),
        };
        self.strong(&format!("rollout {}{retry}: {}", picture.rollout, picture.mark.words()));
        let began = attempt.started_at.map(|at| moment(at, &TimeZone::UTC));
        if let Some(began) = began {
            let took = attempt.ended_at.zip(attempt.started_at);
            let took = took.map(|(end, start)| format!(", took {}", span(end - start)));
            let worker = attempt.worker.as_deref().unwrap_or("nobody");
            let text = format!("{began} UTC{}, by {worker}", took.unwrap_or_default());
            self.fact("began", &text);
        }
        if !picture.means.is_empty() {
            self.fact("reason", &picture.means);
        } else if let Some(stage) = &attempt.stage {
            self.fact("stage", stage);
        }
        if !attempt.detail.is_empty() {
            self.fact("detail", &attempt.detail);
        }
        if !picture.holds.is_empty() {
            self.fact("flash", &picture.holds);
        }
    }
}

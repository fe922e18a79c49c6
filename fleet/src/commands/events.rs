//! `firmcast-fleet events`: what happened.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use firmcast_fleet::model::Event;
use firmcast_fleet::store::requests::PAGE_MAX;
use firmcast_manager::clock::rfc3339;

use super::Place;
use super::terminal::{say, shown};

/// How long who follows waits at a time.
const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only events after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: i64,
    /// Wait for further events, until stopped
    #[arg(long)]
    follow: bool,
    /// Write JSON, one event in each line
    #[arg(long)]
    json: bool,
}

impl EventsArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let mut store = place.store()?;
        let mut after = self.after;
        loop {
            let page = store.events(after, PAGE_MAX)?;
            for event in &page {
                match self.json {
                    true => say(&serde_json::to_string(event)?),
                    false => say(&line(event)),
                }
            }
            match page.last() {
                Some(last) => after = last.id,
                None if self.follow => store.wait(WAIT)?,
                None => return Ok(ExitCode::SUCCESS),
            }
        }
    }
}

fn line(event: &Event) -> String {
    let at = u64::try_from(event.at).unwrap_or_default();
    let time = rfc3339(UNIX_EPOCH + Duration::from_micros(at));
    let host = event.host.as_deref().unwrap_or("-");
    let kind = match serde_json::to_value(event.kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    };
    let (host, by, detail) = (shown(host), shown(&event.by), shown(&event.detail));
    format!("{time}  {kind:10}  {host}  {detail}  (by {by})")
}

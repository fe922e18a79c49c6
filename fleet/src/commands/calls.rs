//! `firmcast-fleet calls`: dead hosts that call for help.

use std::process::ExitCode;

use clap::Args;
use firmcast_fleet::model::{Call, Stamp};
use firmcast_fleet::picture::call::{does, found, to_do};
use firmcast_fleet::picture::words::span;

use super::terminal::{say, shown};
use super::{Place, now};

#[derive(Debug, Args)]
pub(crate) struct CallsArgs {
    /// Write JSON, one host in each line
    #[arg(long)]
    json: bool,
}

impl CallsArgs {
    /// Lists them.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let now = now();
        let calls = place.store()?.calls(now)?;
        if calls.is_empty() && !self.json {
            say("no dead host calls for help");
        }
        for call in &calls {
            match self.json {
                true => say(&serde_json::to_string(call)?),
                false => tell(call, now),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(call: &Call, now: Stamp) {
    let heard = span(now.saturating_sub(call.heard_at).max(0));
    let [host, site, worker] = [&call.host, &call.site, &call.worker].map(|text| shown(text));
    let [found, does] = [found(call), does(call)].map(|text| shown(&text).to_string());
    say(&format!("{host}  site {site}, heard {heard} ago by {worker}  firmware {found}  {does}"));
    let (advice, command) = to_do(call);
    if !advice.is_empty() {
        say(format!("  {advice} {}", command.unwrap_or_default()).trim_end());
    }
}

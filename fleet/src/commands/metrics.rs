//! `firmcast-fleet metrics`: what Prometheus would read, for a textfile collector.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use firmcast_fleet::metrics::{Look, page};

use super::terminal::{complain, say};
use super::{Place, now};

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {}

impl MetricsArgs {
    /// Writes the page, also when the store does not answer: then it says so.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let (at, begun) = (now(), Instant::now());
        let survey = place.store().and_then(|mut store| Ok(store.survey(at)?));
        let took_s = begun.elapsed().as_secs_f64();
        let version = env!("CARGO_PKG_VERSION");
        say(page(&Look { version, at, took_s, survey: survey.as_ref().ok() }).trim_end());
        if let Err(error) = survey {
            complain(&error);
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

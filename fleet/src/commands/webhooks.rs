//! `firmcast-fleet webhooks`: who delivers to the webhooks, as a process.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use firmcast_fleet::store::Store;
use firmcast_fleet::webhooks::{Postman, REQUEST_MAX, Sender};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::terminal::remark;
use super::work::own_name;
use super::{Place, chance, now};

/// How long the store is waited for at a time: so soon a stop is seen.
const TURN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct WebhooksArgs {
    /// Call this sender NAME, unique among all [default: the machine's name and a number]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl WebhooksArgs {
    /// Delivers until it is told to stop.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let name = self.name.unwrap_or_else(own_name);
        let mut store = place.store()?;
        let store = store.as_mut();
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))
                .context("cannot take signals")?;
        }
        let mut sender = Sender::new(&name, Postman::new(REQUEST_MAX));
        let mut trouble = String::new();
        loop {
            if stop.load(Ordering::Relaxed) {
                sender.take_no_more();
            }
            let turned = sender.turn(store, now(), chance());
            sender.take_news().iter().for_each(|news| remark(news));
            let told = turned.map_or_else(
                |error| format!("{:#}", anyhow::Error::new(error)),
                |()| String::new(),
            );
            let is_away = !told.is_empty();
            if told != trouble {
                remark(if is_away { &told } else { "the store answers again" });
                trouble = told;
            }
            if stop.load(Ordering::Relaxed) && (is_away || !sender.is_busy()) {
                // If the store is away, the lease runs out by itself.
                let _ = sender.give_up(store, now());
                return Ok(ExitCode::SUCCESS);
            }
            wait(&mut sender, store, is_away);
        }
    }
}

/// Waits until something is to be done, but not for long.
fn wait(sender: &mut Sender, store: &mut dyn Store, is_away: bool) {
    if sender.is_busy() {
        sender.wait(TURN);
    } else if is_away || store.wait(TURN).is_err() {
        std::thread::sleep(TURN);
    }
}

//! Dead hosts of the site are answered by a `firmcast serve`, which dies with the worker, in a
//! thread of its own: leases are renewed meanwhile.
//!
//! | file | what it has |
//! | --- | --- |
//! | `rescue/desk.rs` | when the service is told what, and what it says is told the store |
//! | `rescue/files.rs` | what it reads: hosts, policy, bundles |
//! | `rescue/service.rs` | its process |

mod desk;
mod files;
mod service;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use firmcast::wire::MANAGER_PORT;

use crate::commands::Place;
use crate::commands::firmcast::FirmcastArgs;
use desk::Desk;

/// How long a turn waits for the next one.
const TURN: Duration = Duration::from_secs(2);

const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), MANAGER_PORT);

/// How dead hosts are answered.
#[derive(Clone, Debug, Args)]
pub(super) struct RescueArgs {
    /// Answer no dead hosts: somebody else does
    #[arg(long)]
    no_rescue: bool,
    /// Wait for dead hosts at this address and UDP port; at one address no broadcast of a dead host
    /// arrives
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = LISTEN_DEFAULT)]
    rescue_listen: SocketAddr,
}

impl RescueArgs {
    /// Begins to answer the dead hosts of a site, if that is wanted.
    pub(super) fn start(
        &self,
        place: &Place,
        site: &str,
        worker: &str,
        firmcast: &FirmcastArgs,
    ) -> anyhow::Result<Rescuer> {
        let (stop, stopped) = channel();
        if self.no_rescue {
            return Ok(Rescuer { stop, thread: None });
        }
        let listen = self.rescue_listen;
        // Of several workers of this machine one can listen there, and the files are for that one.
        let firmcast = firmcast.clone().of(place, &format!("rescue/{listen}"));
        let desk = Desk::new(place.clone(), (site, worker), firmcast, listen);
        let thread = thread::Builder::new()
            .name("rescue".into())
            .spawn(move || answer(desk, &stopped))
            .context("cannot start a thread")?;
        Ok(Rescuer { stop, thread: Some(thread) })
    }
}

/// Answers dead hosts until it is told to stop.
fn answer(mut desk: Desk, stopped: &Receiver<()>) {
    loop {
        desk.turn();
        match stopped.recv_timeout(TURN) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return desk.close(),
        }
    }
}

/// Who answers dead hosts.
pub(super) struct Rescuer {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Rescuer {
    /// Tells it to stop.
    pub(super) fn stop(&self) {
        // Where nobody answers, there is nobody to be told.
        let _ = self.stop.send(());
    }

    /// Waits until it has stopped.
    pub(super) fn wait(self) {
        if let Some(thread) = self.thread {
            // What a thread that panicked had to say, it has said.
            let _ = thread.join();
        }
    }
}

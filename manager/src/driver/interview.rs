//! Asking hosts who they are: a discovery request, and the identities that come back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use firmcast::keys::{HostPublicKey, ManagerSecretKey, PublicKey as _};
use firmcast::reason::Reason;
use firmcast::session::discovery::{Discovery, Said};
use firmcast::wire::answer::Identity;
use firmcast::wire::versions::{Mismatch, Versions};
use firmcast_manager::clock;
use mio::net::UdpSocket;
use rand_core::{OsRng, RngCore as _};

use super::socket::is_network_error;
use super::stamper::Stamper;
use super::wait::Waiter;

/// Questions follow each other after this; hosts answer each only once.
const REPEAT_INTERVAL: Duration = Duration::from_millis(700);

/// Most questions in one discovery.
const QUESTIONS_MAX: usize = 64;

/// Most hosts that are listed.
const FOUND_MAX: usize = 65_536;

/// A host that answered.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: HostPublicKey,
    pub(crate) address: SocketAddr,
    pub(crate) identity: Identity,
}

/// Who asks: a manager's key, and its stamps.
pub(crate) struct Asker<'a> {
    pub(crate) secret: &'a ManagerSecretKey,
    pub(crate) stamper: &'a mut Stamper,
}

impl Asker<'_> {
    fn question(&mut self) -> Discovery {
        let mut nonce = [0; 16];
        OsRng.fill_bytes(&mut nonce);
        Discovery::new(self.secret, self.stamper.question(), nonce)
    }
}

/// Asks and gathers answers until `timeout`, or, when single hosts are asked, until all have
/// answered.
pub(crate) fn ask(
    waiter: &mut Waiter,
    socket: &UdpSocket,
    asker: &mut Asker<'_>,
    destinations: &[SocketAddr],
    timeout: Duration,
    single_hosts: bool,
) -> anyhow::Result<Vec<Found>> {
    let end = waiter.now() + timeout;
    let mut questions: Vec<Discovery> = Vec::new();
    let mut found: BTreeMap<[u8; 32], Found> = BTreeMap::new();
    let mut next_question = waiter.now();
    let mut warned = false;
    let mut later = LaterStamps::default();
    while waiter.now() < end {
        if waiter.now() >= next_question && questions.len() < QUESTIONS_MAX {
            let question = asker.question();
            send(socket, &question, destinations, &mut warned);
            questions.push(question);
            next_question = waiter.now() + REPEAT_INTERVAL;
        }
        waiter.wait(next_question.min(end))?;
        ensure!(waiter.stop_requests()? == 0, "interrupted");
        receive(socket, asker, &questions, &mut found, &mut later)?;
        let answered = |to: &SocketAddr| found.values().any(|host| host.address == *to);
        if single_hosts && destinations.iter().all(answered) {
            break;
        }
    }
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by(|a, b| {
        (&a.identity.host_name, a.address).cmp(&(&b.identity.host_name, b.address))
    });
    Ok(found)
}

/// Hosts that have seen a later stamp of this key, and have been told of.
#[derive(Default)]
struct LaterStamps(BTreeSet<[u8; 32]>);

impl LaterStamps {
    fn tell(&mut self, key: &HostPublicKey, address: SocketAddr, newest: u64) {
        if self.0.len() < FOUND_MAX && self.0.insert(*key.exchange()) {
            let newest = clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_micros(newest));
            eprintln!(
                "firmcast: a host is at {address} ({}) that has seen a later stamp of this key \
                ({newest}); compare the clocks of all machines that have this key",
                key.fingerprint()
            );
        }
    }
}

fn send(socket: &UdpSocket, question: &Discovery, to: &[SocketAddr], warned: &mut bool) {
    for to in to {
        // A question that cannot be sent now is asked again.
        let sent = socket
            .send_to(&question.request(), *to)
            .and_then(|_| socket.send_to(&question.request_to_older(), *to));
        if let Err(error) = sent
            && !std::mem::replace(warned, true)
        {
            eprintln!("firmcast: cannot ask {to}: {error}");
        }
    }
}

fn receive(
    socket: &UdpSocket,
    asker: &mut Asker<'_>,
    questions: &[Discovery],
    found: &mut BTreeMap<[u8; 32], Found>,
    later: &mut LaterStamps,
) -> anyhow::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let (size, address) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The network says that an earlier question did not arrive.
            Err(error) if is_network_error(&error) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let datagram = &buffer[..size];
        if let Some(proven) = questions.iter().rev().find_map(|asked| asked.prove(datagram)) {
            // A busy host wants to know that this is no forged address; lost, the next question
            // comes soon.
            let _ = socket.send_to(&proven, address);
            continue;
        }
        let open = |question: &Discovery| question.open(asker.secret, datagram);
        let Some((key, said)) = questions.iter().rev().find_map(open) else { continue };
        match said {
            Said::Identity(mut identity, versions) if found.len() < FOUND_MAX => {
                let ours = Versions::OURS;
                if ours.common(versions).is_none() {
                    identity.obstacle = Reason::ProtocolMismatch;
                    identity.obstacle_detail = Mismatch { ours, theirs: versions }.to_string();
                }
                found.insert(*key.exchange(), Found { key, address, identity: *identity });
            }
            Said::Identity(..) => {}
            // The next question is asked with a stamp above it.
            Said::LaterStamp(newest) => {
                later.tell(&key, address, newest);
                asker.stamper.raise(newest);
            }
        }
    }
}

//! Asking hosts who they are: a discovery request, and the identities that come back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
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
use super::stderr;
use super::wait::Waiter;

/// Questions follow each other after this; hosts answer each only once.
const REPEAT_INTERVAL: Duration = Duration::from_millis(700);

/// Most questions in one discovery.
const QUESTIONS_MAX: usize = 64;

/// Most hosts that are listed.
const FOUND_MAX: usize = 65_536;

/// Most datagrams that are taken before the time and signals are looked at.
const RECEIVE_MAX: usize = 4096;

/// Most hosts of which it is told that they have seen a later stamp.
const LATER_MAX: usize = 16;

/// Most cookies from one address that are tried for one question: some may be forged.
const PROOFS_EACH_MAX: usize = 3;

/// Most addresses at which a question is asked again with a cookie, until the next question.
const PROVED_MAX: usize = 1024;

/// Most machines with one key that are listed, beside the first.
const TWINS_MAX: usize = 16;

/// A host that answered.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: HostPublicKey,
    pub(crate) address: SocketAddr,
    pub(crate) identity: Identity,
    /// Where other machines answered with the same key.
    pub(crate) twins: BTreeSet<SocketAddr>,
}

impl Found {
    /// Whether a machine with this key answered from there.
    pub(crate) fn is_at(&self, address: &SocketAddr) -> bool {
        self.address == *address || self.twins.contains(address)
    }

    /// Takes an answer with the same key: of this host once more, or of another machine, which is
    /// elsewhere and in another boot.
    fn hear_again(&mut self, again: Found) {
        let is_elsewhere = again.address != self.address;
        let (own, other) = (self.identity.boot_id, again.identity.boot_id);
        // Zeros are no boot: it could not be read.
        if is_elsewhere && own != other && own != [0; 16] && other != [0; 16] {
            if self.twins.len() < TWINS_MAX {
                self.twins.insert(again.address);
            }
        } else {
            (self.address, self.identity) = (again.address, again.identity);
        }
    }
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
    let mut told = Told::default();
    while waiter.now() < end {
        if waiter.now() >= next_question && questions.len() < QUESTIONS_MAX {
            let question = asker.question();
            send(socket, &question, destinations, &mut warned);
            told.begin_question();
            questions.push(question);
            next_question = waiter.now() + REPEAT_INTERVAL;
        }
        waiter.wait(next_question.min(end))?;
        ensure!(waiter.stop_requests()? == 0, "interrupted");
        receive(socket, asker, &questions, &mut found, &mut told)?;
        let answered = |to: &SocketAddr| found.values().any(|host| host.is_at(to));
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

/// What was said once and is not said again.
#[derive(Default)]
struct Told {
    /// Hosts that have seen a later stamp of this key.
    later: BTreeSet<[u8; 32]>,
    /// With which cookies a question was asked again at an address, since the newest question.
    proved: BTreeMap<(usize, IpAddr), Vec<[u8; 16]>>,
}

impl Told {
    /// Gives busy hosts their chance with the next question.
    fn begin_question(&mut self) {
        self.proved.clear();
    }

    /// Whether to ask again with the proof that a busy host wants: a few times, because the proof
    /// is much longer than the reply that wants it, and anybody may have sent that. Each cookie is
    /// tried once, and who forges many uses up no more than the time until the next question.
    fn may_prove(&mut self, question: usize, address: SocketAddr, cookie: [u8; 16]) -> bool {
        let has_room = self.proved.len() < PROVED_MAX;
        let place = (question, address.ip());
        if !has_room && !self.proved.contains_key(&place) {
            return false;
        }
        let tried = self.proved.entry(place).or_default();
        let is_new = tried.len() < PROOFS_EACH_MAX && !tried.contains(&cookie);
        if is_new {
            tried.push(cookie);
        }
        is_new
    }

    fn later_stamp(&mut self, key: &HostPublicKey, address: SocketAddr, newest: u64) {
        if self.later.len() < LATER_MAX && self.later.insert(*key.exchange()) {
            let newest = clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_micros(newest));
            stderr::tell(format_args!(
                "a host is at {address} ({}) that has seen a later stamp of this key \
                ({newest}), and ignores this one: compare the clocks of all machines that have \
                this key, and copy stamps.json from the one that was ahead",
                key.fingerprint()
            ));
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
            stderr::tell(format_args!("cannot ask {to}: {error}"));
        }
    }
}

fn receive(
    socket: &UdpSocket,
    asker: &mut Asker<'_>,
    questions: &[Discovery],
    found: &mut BTreeMap<[u8; 32], Found>,
    told: &mut Told,
) -> anyhow::Result<()> {
    let mut buffer = [0; 2048];
    for _ in 0..RECEIVE_MAX {
        let (size, address) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The network says that an earlier question did not arrive.
            Err(error) if is_network_error(&error) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let datagram = &buffer[..size];
        let proof = |(number, asked): (usize, &Discovery)| Some((number, asked.prove(datagram)?));
        if let Some((number, (cookie, proven))) = questions.iter().enumerate().rev().find_map(proof)
        {
            // A busy host wants to know that this is no forged address; lost, the next question
            // comes soon.
            if told.may_prove(number, address, cookie) {
                let _ = socket.send_to(&proven, address);
            }
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
                let (identity, twins) = (*identity, BTreeSet::new());
                let answer = Found { key, address, identity, twins };
                match found.entry(*key.exchange()) {
                    Entry::Vacant(entry) => drop(entry.insert(answer)),
                    Entry::Occupied(mut entry) => entry.get_mut().hear_again(answer),
                }
            }
            Said::Identity(..) => {}
            // Anybody with a key of his own may say so: it is told, and changes nothing.
            Said::LaterStamp(newest) => told.later_stamp(&key, address, newest),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use firmcast::keys::{HostSecretKey, SecretKey as _};
    use firmcast::session::discovery::{DiscoveryResponder, Heard};
    use firmcast::time::Time;
    use firmcast::wire::samples;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn at(number: usize) -> SocketAddr {
        SocketAddr::from(((number as u32).to_be_bytes(), 9))
    }

    #[test]
    fn a_proof_is_given_few_times_to_each_address_and_not_for_ever() {
        let mut told = Told::default();
        let given = (0..100).filter(|cookie| told.may_prove(0, at(1), [*cookie; 16])).count();
        assert_eq!(given, PROOFS_EACH_MAX);
        let more = (2..10_000).filter(|number| told.may_prove(1, at(*number), [0; 16])).count();
        assert_eq!(more, PROVED_MAX - 1);
    }

    /// A host that others keep busy.
    fn busy_host(asker: &mut Asker<'_>, seed: u8) -> DiscoveryResponder {
        let mut host = DiscoveryResponder::new(vec![asker.secret.public()]);
        for number in 0..100 {
            host.handle(Time::ZERO, at(number), &asker.question().request(), &mut rng(seed));
        }
        host
    }

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    /// Somebody replies before the busy host does: with one cookie again and again, and in the name
    /// of very many addresses. A host with another secret makes the forged cookie.
    #[test]
    fn forged_cookies_keep_no_busy_host_from_being_found() {
        let folder = tempfile::tempdir().unwrap();
        let secret = ManagerSecretKey::generate(&mut OsRng);
        let host_key = HostSecretKey::generate(&mut OsRng);
        let mut stamper = Stamper::new(folder.path(), &secret);
        let mut asker = Asker { secret: &secret, stamper: &mut stamper };
        let mut forger = busy_host(&mut asker, 1);
        let mut host = busy_host(&mut asker, 2);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(socket);
        let network = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        network.set_read_timeout(Some(Duration::from_secs(10))).unwrap();

        let mut told = Told::default();
        for number in 0..=PROVED_MAX {
            told.may_prove(0, at(number), [0; 16]);
        }
        told.begin_question();
        let questions = [asker.question()];
        send(&socket, &questions[0], &[network.local_addr().unwrap()], &mut false);
        let (mut found, mut buffer) = (BTreeMap::new(), [0; 2048]);
        while found.is_empty() {
            let (length, from) = network.recv_from(&mut buffer).unwrap();
            let mut replies = Vec::new();
            let request = &buffer[..length];
            let forged = forger.handle(Time::ZERO, from, request, &mut rng(1));
            match host.handle(Time::ZERO, from, request, &mut rng(2)) {
                Some(Heard::Busy(reply)) => {
                    if let Some(Heard::Busy(forged)) = forged {
                        replies.extend(vec![forged; 5]);
                    }
                    replies.push(reply);
                }
                Some(Heard::Asked(asked)) => {
                    let identity = samples::identity();
                    replies.extend(host.answer(&asked, &host_key, &identity, [7; 32]));
                }
                None => {}
            }
            for reply in &replies {
                network.send_to(reply, from).unwrap();
            }
            receive(&socket, &mut asker, &questions, &mut found, &mut told).unwrap();
        }
    }

    #[test]
    fn another_machine_with_the_same_key_is_no_second_address_of_the_first() {
        let key = HostSecretKey::generate(&mut OsRng).public();
        let found = |address: &str, boot: u8| {
            let identity = Identity { boot_id: [boot; 16], ..samples::identity() };
            Found { key, address: address.parse().unwrap(), identity, twins: BTreeSet::new() }
        };
        let mut host = found("10.0.0.1:1", 1);
        // One with two interfaces; one that was started again; one that cannot tell its boot.
        for again in [found("10.0.0.9:1", 1), found("10.0.0.9:1", 2), found("10.0.0.1:1", 0)] {
            host.hear_again(again);
            assert!(host.twins.is_empty());
        }
        let mut host = found("10.0.0.1:1", 1);
        for again in [found("10.0.0.2:1", 2), found("10.0.0.1:1", 1), found("10.0.0.2:1", 2)] {
            host.hear_again(again);
        }
        assert_eq!(host.address, "10.0.0.1:1".parse().unwrap());
        assert_eq!(host.twins, BTreeSet::from(["10.0.0.2:1".parse().unwrap()]));
    }
}

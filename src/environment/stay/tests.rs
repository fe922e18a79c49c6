//! A dead host against scripted managers; the simulator has the wide tests.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::{Conclusion, Patient, Situation, Stay, StayAction};
use crate::image::Board;
use crate::keys::{HostSecretKey, ManagerSecretKey, SecretKey as _};
use crate::reason::{Condition, FlashState, Reason};
use crate::rescue::search::{ASK_PATIENCE, HOLDS_MAX, SearchEnd, SearchSituation};
use crate::rescue::seek::{CALL_PATIENCE, Candidate, REST_MAX, Source};
use crate::session::{Endpoint, SessionEvent};
use crate::time::Time;
use crate::wire::answer::{Answer, Environment, Identity, Phase};
use crate::wire::command::Command;
use crate::wire::help::{Finding, HelpRequest};
use crate::wire::samples;

const PATIENCE: Duration = Duration::from_secs(30);
const EVERYBODY: ([u8; 4], u16) = ([255; 4], 9848);

fn host_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 99], 9847))
}

fn manager_address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 9848))
}

fn manager_key(number: u8) -> ManagerSecretKey {
    ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([number; 32]))
}

/// A network with managers, and one dead host that trusts the keys 1 and 2.
struct Room {
    now: Time,
    host: Stay,
    host_key: [u8; 32],
    managers: BTreeMap<SocketAddr, Endpoint>,
    /// What each place knows.
    places: BTreeMap<&'static str, Vec<Candidate>>,
    looked_up: Vec<Source>,
    heard: Vec<(SocketAddr, Answer)>,
    conclusion: Option<Conclusion>,
}

impl Room {
    fn new(wants_image: bool) -> Self {
        let host_key = HostSecretKey::generate(&mut ChaCha20Rng::from_seed([9; 32]));
        let public = *host_key.public().exchange();
        let identity = Identity { environment: Environment::Recovery, ..samples::identity() };
        let finding = if wants_image { Finding::Invalid } else { Finding::Unknown };
        let (offset_bytes, why, rescues) = (7, "torn".into(), None);
        let request = HelpRequest { wants_image, finding, offset_bytes, why, identity, rescues };
        let managers = vec![manager_key(1).public(), manager_key(2).public()];
        let board = Board::default();
        let patience = (!wants_image).then_some(PATIENCE);
        let patient = Patient {
            host_key,
            managers,
            releases: Vec::new(),
            board,
            request,
            flash: FlashState::Untouched(match wants_image {
                true => Condition::Broken,
                false => Condition::Whole,
            }),
            patience,
        };
        let host = Stay::by_itself(Time::ZERO, patient, [3; 32]);
        Self {
            now: Time::ZERO,
            host,
            host_key: public,
            managers: BTreeMap::new(),
            places: BTreeMap::new(),
            looked_up: Vec::new(),
            heard: Vec::new(),
            conclusion: None,
        }
    }

    fn manager(&mut self, number: u8) {
        let mut endpoint = Endpoint::new(*manager_key(number).exchange(), [number; 32]);
        endpoint.serve_hosts(100);
        endpoint.serve_strangers(4);
        self.managers.insert(manager_address(number), endpoint);
    }

    fn knows(&mut self, place: &'static str, address: SocketAddr, broadcast: bool) {
        let candidate = Candidate { address, broadcast, key: None };
        self.places.entry(place).or_default().push(candidate);
    }

    /// Lets everything happen until `end`.
    fn run(&mut self, end: Time) {
        loop {
            self.host.handle_timeout(self.now);
            self.deliver();
            match self.host.poll_timeout() {
                Some(due) if due <= end => self.now = self.now.max(due),
                _ => break,
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(action) = self.host.poll_action(self.now) {
                quiet = false;
                match action {
                    StayAction::LookUp(source) => {
                        self.looked_up.push(source);
                        let found = self.places.get(source.to_string().as_str()).cloned();
                        self.host.found(self.now, source, Ok(found.unwrap_or_default()));
                    }
                    StayAction::JoinGroup(_)
                    | StayAction::ReadPiece { .. }
                    | StayAction::Flash { .. } => {}
                    StayAction::Conclude(conclusion) => self.conclusion = Some(conclusion),
                }
            }
            while let Some(sent) = self.host.poll_transmit() {
                quiet = false;
                let everybody = sent.to == SocketAddr::from(EVERYBODY);
                for (address, manager) in &mut self.managers {
                    if everybody || sent.to == *address {
                        let event = manager.handle_datagram(self.now, host_address(), &sent.bytes);
                        if let Some(SessionEvent::Message { bytes, .. }) = event {
                            self.heard.push((*address, Answer::parse(&bytes).unwrap()));
                        }
                    }
                }
            }
            for (address, manager) in &mut self.managers {
                while let Some(sent) = manager.poll_transmit() {
                    quiet = false;
                    self.host.handle_datagram(self.now, *address, &sent.bytes);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn say(&mut self, number: u8, command: &Command) {
        let manager = self.managers.get_mut(&manager_address(number)).unwrap();
        assert!(manager.send(self.now, &self.host_key, &command.emit()));
        self.deliver();
    }

    fn requests(&self) -> usize {
        self.heard.iter().filter(|(_, said)| matches!(said, Answer::HelpRequest(_))).count()
    }
}

#[test]
fn the_first_place_with_a_trusted_manager_is_taken_and_the_others_are_not_asked() {
    let mut room = Room::new(true);
    room.manager(3);
    room.manager(2);
    room.knows("stored address", manager_address(8), false);
    room.knows("BMC", manager_address(3), false);
    room.knows("BMC", manager_address(2), false);
    room.knows("DHCP", manager_address(1), false);
    room.run(Time::ZERO + CALL_PATIENCE * 2 + Duration::from_millis(100));
    assert_eq!(room.looked_up, [Source::Stored, Source::Bmc]);
    let (address, Answer::HelpRequest(request)) = &room.heard[0] else {
        panic!("{:?}", room.heard)
    };
    assert_eq!((*address, request.offset_bytes), (manager_address(2), 7));
    assert!(room.heard.iter().all(|(address, _)| *address == manager_address(2)));
}

#[test]
fn everybody_is_called_when_no_place_knows_anything_and_a_silent_manager_is_left() {
    let mut room = Room::new(true);
    room.knows("broadcast", EVERYBODY.into(), true);
    room.run(Time::ZERO + Duration::from_secs(600));
    assert!(room.looked_up.len() > 40, "{}", room.looked_up.len());
    room.manager(1);
    let end = room.now + Duration::from_secs(80);
    room.run(end);
    assert!(room.requests() > 2);
    let Situation::Searching(SearchSituation::Asking { manager, held: None }) =
        room.host.situation()
    else {
        panic!()
    };
    assert_eq!(manager, manager_address(1));
    // It answers handshakes and nothing else: after a while, and a rest, the search begins anew.
    let looked_up = room.looked_up.len();
    let end = room.now + ASK_PATIENCE + REST_MAX * 5 / 4;
    room.run(end);
    assert!(room.looked_up.len() > looked_up);
}

#[test]
fn a_held_host_asks_again_when_it_was_told_to_and_enlists_once() {
    let mut room = Room::new(true);
    room.manager(1);
    room.knows("stored address", manager_address(1), false);
    room.run(Time::ZERO);
    assert_eq!(room.requests(), 1);
    room.say(1, &Command::Hold { again_s: 100, reason: Reason::NoBundle, detail: "x".into() });
    room.run(Time::ZERO + Duration::from_secs(70));
    assert_eq!(room.requests(), 1);
    room.run(Time::ZERO + Duration::from_secs(130));
    assert!(room.requests() >= 2);
    room.say(1, &Command::Enlist { campaign: 5, transfer_timeout_s: 60 });
    let end = room.now + Duration::from_secs(5);
    room.run(end);
    let Some((_, Answer::Report(report))) = room.heard.last() else { panic!("{:?}", room.heard) };
    assert_eq!((report.campaign, report.phase), (5, Phase::Ready));
    assert_eq!(
        report.ending.flash,
        FlashState::Untouched(Condition::Broken),
        "no reboot is safe yet"
    );
    room.say(1, &Command::Enlist { campaign: 6, transfer_timeout_s: 60 });
    assert_eq!(room.host.recovery().unwrap().report().campaign, 5);
}

#[test]
fn a_manager_that_does_not_help_does_not_keep_the_host_from_the_next_one() {
    let mut room = Room::new(true);
    room.manager(1);
    room.manager(2);
    room.knows("stored address", manager_address(1), false);
    room.knows("stored address", manager_address(2), false);
    let asked = |room: &Room, number| {
        let is_it = |(address, _): &&(SocketAddr, Answer)| *address == manager_address(number);
        room.heard.iter().filter(is_it).count()
    };
    // The first one takes calls and says nothing.
    room.run(Time::ZERO + ASK_PATIENCE);
    assert!(asked(&room, 1) > 2 && asked(&room, 2) == 1, "{:?}", room.heard);
    // The second one puts the host off.
    let before = asked(&room, 1);
    for _ in 0..HOLDS_MAX {
        assert_eq!(asked(&room, 1), before);
        room.say(2, &Command::Hold { again_s: 60, reason: Reason::Parked, detail: String::new() });
        let end = room.now + Duration::from_secs(80);
        room.run(end);
    }
    assert!(asked(&room, 1) > before);
    // An attempt with the first one fails: the second one is next.
    room.say(1, &Command::Enlist { campaign: 1, transfer_timeout_s: 60 });
    room.say(1, &Command::Release { campaign: 1 });
    let before = (asked(&room, 1), asked(&room, 2));
    let end = room.now + Duration::from_secs(8);
    room.run(end);
    assert_eq!((asked(&room, 1), asked(&room, 2) > before.1), (before.0, true));
}

#[test]
fn a_failed_attempt_never_ends_the_stay_and_is_told_with_the_next_request() {
    let mut room = Room::new(true);
    room.manager(1);
    room.knows("stored address", manager_address(1), false);
    for campaign in 1..4 {
        let end = room.now + Duration::from_secs(200);
        room.run(end);
        room.say(1, &Command::Enlist { campaign, transfer_timeout_s: 60 });
        room.say(1, &Command::Release { campaign });
        assert!(room.conclusion.is_none(), "{:?}", room.conclusion);
    }
    // Silence of the manager during a campaign ends it, too.
    let end = room.now + Duration::from_secs(200);
    room.run(end);
    room.say(1, &Command::Enlist { campaign: 9, transfer_timeout_s: 60 });
    let end = room.now + Duration::from_secs(600);
    room.run(end);
    let ends: Vec<_> = room
        .heard
        .iter()
        .filter_map(|(_, said)| match said {
            Answer::HelpRequest(request) => request.identity.last_end.clone(),
            _ => None,
        })
        .collect();
    assert!(ends.iter().any(|end| end.ending.reason == Reason::Released && end.campaign == 3));
    let last = ends.last().unwrap();
    assert_eq!((last.campaign, last.ending.reason), (9, Reason::TransferTimedOut));
    assert_eq!(last.ending.flash, FlashState::Untouched(Condition::Broken));
    let is_broken = |said: &Answer| match said {
        Answer::HelpRequest(request) if request.identity.last_end.is_some() => {
            request.identity.firmware == Condition::Broken
        }
        _ => true,
    };
    assert!(room.heard.iter().all(|(_, said)| is_broken(said)));
}

#[test]
fn who_only_tells_something_takes_no_image_and_boots_on() {
    let mut room = Room::new(false);
    room.manager(1);
    room.knows("stored address", manager_address(1), false);
    room.run(Time::ZERO);
    room.say(1, &Command::Enlist { campaign: 5, transfer_timeout_s: 60 });
    assert!(room.host.recovery().is_none() && room.conclusion.is_none());
    room.say(1, &Command::Hold { again_s: 60, reason: Reason::None, detail: String::new() });
    assert!(matches!(room.conclusion, Some(Conclusion::Unchanged(SearchEnd::Told { .. }))));

    let mut alone = Room::new(false);
    alone.run(Time::ZERO + PATIENCE);
    assert!(matches!(alone.conclusion, Some(Conclusion::Unchanged(SearchEnd::NotHelped))));
}

//! A search against managers that are silent, slow or of no help; the whole stay is tested with
//! [`crate::environment::stay`].

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::keys::{ManagerSecretKey, SecretKey as _};
use crate::reason::{Condition, Ending, FlashState, Reason};
use crate::rescue::seek::{CALL_PATIENCE, CANDIDATES_MAX, REST_MAX};
use crate::wire::samples;
use crate::wire::versions::Versions;

/// The address that all managers hear.
const EVERYBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), 9848);

const DAY: Duration = Duration::from_secs(24 * 3600);

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 9848))
}

fn candidate(number: u8) -> Candidate {
    Candidate { address: address(number), broadcast: false, key: None }
}

fn manager_key(number: u8) -> ManagerSecretKey {
    ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([number; 32]))
}

fn case(patience: Option<Duration>) -> Case {
    let identity = samples::identity();
    let request = HelpRequest {
        wants_image: true,
        finding: Finding::Unknown,
        offset_bytes: 0,
        why: String::new(),
        identity,
        rescues: None,
    };
    let host_key = HostSecretKey::generate(&mut ChaCha20Rng::from_seed([9; 32]));
    Case { host_key, managers: vec![manager_key(1).public()], request, patience }
}

struct Manager {
    address: SocketAddr,
    endpoint: Endpoint,
    /// What it answers each request for help with.
    answer: Option<Command>,
}

/// A search, what its places know, and managers.
struct Bench {
    now: Time,
    search: Search,
    /// None: the place cannot be asked.
    places: BTreeMap<&'static str, Option<Vec<Candidate>>>,
    managers: Vec<Manager>,
    looked_up: Vec<Source>,
    /// Whom the search began to call, and when.
    called: Vec<(Time, SocketAddr)>,
    /// When a manager was asked for help.
    asked: Vec<Time>,
    /// What it was told of rescues then.
    told: Vec<Option<u8>>,
    enlisted: Vec<u64>,
    end: Option<SearchEnd>,
}

impl Bench {
    fn new(case: Case) -> Self {
        Self::of(Search::new(Time::ZERO, case, [3; 32]), Time::ZERO)
    }

    fn of(search: Search, now: Time) -> Self {
        Self {
            now,
            search,
            places: BTreeMap::new(),
            managers: Vec::new(),
            looked_up: Vec::new(),
            called: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            enlisted: Vec::new(),
            end: None,
        }
    }

    fn knows(mut self, place: &'static str, numbers: &[u8]) -> Self {
        self.places.insert(place, Some(numbers.iter().map(|number| candidate(*number)).collect()));
        self
    }

    fn with_manager(mut self, number: u8, answer: Option<Command>) -> Self {
        let mut endpoint = Endpoint::new(*manager_key(number).exchange(), [7; 32]);
        endpoint.serve_hosts(100);
        endpoint.serve_strangers(4);
        self.managers.push(Manager { address: address(number), endpoint, answer });
        self
    }

    /// Lets everything happen until `end`.
    fn run(&mut self, end: Time) {
        loop {
            self.search.handle_timeout(self.now);
            self.settle();
            match self.search.poll_timeout() {
                Some(due) if due <= end => self.now = self.now.max(due),
                _ => break,
            }
        }
        self.now = end;
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(action) = self.search.poll_action() {
                quiet = false;
                match action {
                    SearchAction::LookUp(source) => self.look_up(source),
                    SearchAction::End(end) => self.end = Some(end),
                }
            }
            if let SearchSituation::Calling(address) = self.search.situation()
                && self.called.last().is_none_or(|(at, last)| {
                    *last != address || self.now.since(*at) >= CALL_PATIENCE
                })
            {
                self.called.push((self.now, address));
            }
            while let Some(sent) = self.search.poll_transmit() {
                quiet = false;
                self.deliver(&sent);
            }
            if quiet {
                return;
            }
        }
    }

    fn look_up(&mut self, source: Source) {
        self.looked_up.push(source);
        let known = self.places.get(source.to_string().as_str()).cloned();
        let found = known.unwrap_or_else(|| Some(Vec::new())).ok_or_else(|| "it hangs".to_owned());
        self.search.found(self.now, source, found);
    }

    fn deliver(&mut self, sent: &Transmit) {
        let hears = |manager: &&mut Manager| sent.to == manager.address || sent.to == EVERYBODY;
        for Manager { address, endpoint, answer } in self.managers.iter_mut().filter(hears) {
            let from = SocketAddr::from(([10, 0, 0, 99], 1));
            if let Some(SessionEvent::Message { peer, bytes, .. }) =
                endpoint.handle_datagram(self.now, from, &sent.bytes)
                && let Ok(Answer::HelpRequest(request)) = Answer::parse(&bytes)
            {
                self.asked.push(self.now);
                self.told.push(request.rescues);
                if let Some(answer) = answer {
                    endpoint.send(self.now, &peer, &answer.emit());
                }
            }
            while let Some(reply) = endpoint.poll_transmit() {
                let enlistment = self.search.handle_datagram(self.now, *address, &reply.bytes);
                self.enlisted.extend(enlistment.map(|found| found.campaign));
            }
        }
    }
}

#[test]
fn only_a_manager_that_understands_it_is_told_of_rescues_and_from_the_first_request_on() {
    let mut counting = case(None);
    counting.request.rescues = Some(0);
    for (versions, told) in [(Versions::OURS, Some(0)), (Versions::UNSAID, None)] {
        let mut bench = Bench::new(Case { request: counting.request.clone(), ..case(None) })
            .knows("stored address", &[1])
            .with_manager(1, Some(hold(60)));
        bench.managers[0].endpoint.speak(versions);
        bench.run(Time::ZERO + Duration::from_secs(300));
        assert!(bench.told.len() > 2 && bench.told.iter().all(|said| *said == told));
    }
}

fn hold(again_s: u16) -> Command {
    Command::Hold { again_s, reason: Reason::NoBundle, detail: String::new() }
}

#[test]
fn every_address_of_every_place_is_called_in_turn_and_nothing_is_ever_given_up() {
    let mut bench = Bench::new(case(None)).knows("stored address", &[1, 2]).knows("DHCP", &[3]);
    bench.places.insert("BMC", None);
    bench.run(Time::ZERO + DAY);
    assert_eq!(bench.end, None);
    for (index, source) in bench.looked_up.iter().enumerate() {
        assert_eq!(*source, Source::ALL[index % Source::ALL.len()]);
    }
    let rounds = bench.looked_up.len() / Source::ALL.len();
    let round_max = CALL_PATIENCE * 3 + REST_MAX * 5 / 4;
    assert!(rounds as u128 >= DAY.as_millis() / round_max.as_millis(), "{rounds}");
    for (index, (_, called)) in bench.called.iter().enumerate() {
        assert_eq!(*called, address([1, 2, 3][index % 3]), "call {index}");
    }
    // Each has its time; between two rounds is a rest that grows to its longest and no further.
    let gaps: Vec<Duration> =
        bench.called.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    for (index, gap) in gaps.iter().enumerate() {
        let rest = *gap - CALL_PATIENCE;
        let is_rest = index % 3 == 2;
        assert_eq!(rest > Duration::ZERO, is_rest, "gap {index}: {gap:?}");
        assert!(rest <= REST_MAX * 5 / 4, "gap {index}: {gap:?}");
    }
    assert!(gaps[2] < CALL_PATIENCE + Duration::from_secs(2));
    assert!(gaps[3 * 9 + 2] >= CALL_PATIENCE + REST_MAX * 3 / 4);
}

#[test]
fn a_place_is_believed_only_so_many_addresses() {
    let many: Vec<u8> = (1..=2 * CANDIDATES_MAX as u8).collect();
    let mut bench = Bench::new(case(None)).knows("DNS", &many);
    let all_called = CALL_PATIENCE * CANDIDATES_MAX as u32;
    bench.run(Time::ZERO + all_called);
    assert_eq!(bench.called.len(), CANDIDATES_MAX);
    assert_eq!(bench.looked_up.last(), Some(&Source::Broadcast));
}

#[test]
fn a_manager_that_says_nothing_is_asked_ever_less_often_and_left() {
    let mut bench = Bench::new(case(None)).knows("stored address", &[1, 2]).with_manager(1, None);
    bench.run(Time::ZERO + ASK_PATIENCE);
    let gaps: Vec<Duration> = bench.asked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps.len() >= 3, "{gaps:?}");
    for (index, gap) in gaps.iter().enumerate() {
        let pause = (ASK_MIN * 2u32.pow(index as u32 / 2)).min(ASK_MAX);
        assert!((pause * 3 / 4..=pause * 5 / 4).contains(gap), "{index}: {gap:?}");
    }
    assert_eq!(bench.search.situation(), SearchSituation::Calling(address(2)));
    bench.run(Time::ZERO + DAY);
    assert_eq!(bench.end, None);
    let last = *bench.asked.last().unwrap();
    assert!(bench.now.since(last) < ASK_PATIENCE * 4, "it has its turn again and again");
}

#[test]
fn a_manager_that_answers_first_and_does_not_help_keeps_no_host_from_another() {
    let enlist = Command::Enlist { campaign: 7, transfer_timeout_s: 60 };
    let everybody = Candidate { address: EVERYBODY, broadcast: true, key: None };
    for first in [None, Some(hold(1))] {
        let managers = [1, 2, 3].map(|number| manager_key(number).public()).to_vec();
        let mut bench = Bench::new(Case { managers, ..case(None) })
            .with_manager(1, first)
            .with_manager(2, None)
            .with_manager(3, Some(enlist.clone()));
        bench.places.insert("broadcast", Some(vec![everybody.clone()]));
        bench.run(Time::ZERO + (ASK_PATIENCE + REST_MAX) * 2);
        assert!(bench.asked.len() > 1);
        assert_eq!(bench.enlisted.first(), Some(&7));
    }
    // It is asked again where there is no other.
    let managers = vec![manager_key(1).public(), manager_key(2).public()];
    let mut bench = Bench::new(Case { managers, ..case(None) }).with_manager(1, None);
    bench.places.insert("broadcast", Some(vec![everybody]));
    bench.run(Time::ZERO + DAY);
    let last = *bench.asked.last().unwrap();
    assert!(bench.now.since(last) < ASK_PATIENCE * 4, "it has its turn again and again");
}

#[test]
fn a_manager_that_puts_off_is_asked_when_it_says_and_left_after_holds_max() {
    let mut bench =
        Bench::new(case(None)).knows("stored address", &[1, 2]).with_manager(1, Some(hold(30)));
    let pause = Duration::from_secs(30);
    bench.run(Time::ZERO + pause * 5 / 4 * HOLDS_MAX + Duration::from_millis(1));
    let held = &bench.asked[..HOLDS_MAX as usize];
    for pair in held.windows(2) {
        let gap = pair[1].since(pair[0]);
        assert!((pause * 3 / 4..=pause * 5 / 4).contains(&gap), "{gap:?}");
    }
    let (left, next) = bench.called[1];
    assert_eq!(next, address(2));
    assert!(left > held[HOLDS_MAX as usize - 1], "it is left only then");
    assert!(
        bench.asked.iter().skip(HOLDS_MAX as usize).all(|asked| *asked >= left + CALL_PATIENCE)
    );

    // However long it wants the host to wait.
    let mut bench =
        Bench::new(case(None)).knows("stored address", &[1]).with_manager(1, Some(hold(u16::MAX)));
    bench.run(Time::ZERO + HOLD_MAX * 5 / 4);
    assert_eq!(bench.asked.len(), 2);
}

#[test]
fn patience_ends_the_search_and_an_enlistment_needs_a_campaign() {
    let patience = Duration::from_secs(100);
    let mut bench = Bench::new(case(Some(patience))).knows("stored address", &[1]);
    bench.run(Time::ZERO + (patience - Duration::from_millis(1)));
    assert_eq!(bench.end, None);
    bench.run(Time::ZERO + patience);
    assert_eq!(bench.end, Some(SearchEnd::NotHelped));
    assert_eq!(
        (bench.search.situation(), bench.search.poll_timeout()),
        (SearchSituation::Over, None)
    );

    let enlist = |campaign| Some(Command::Enlist { campaign, transfer_timeout_s: 60 });
    for campaign in [0, 5] {
        let mut bench =
            Bench::new(case(None)).knows("stored address", &[1]).with_manager(1, enlist(campaign));
        bench.run(Time::ZERO);
        let expected: &[u64] = if campaign == 0 { &[] } else { &[5] };
        assert_eq!(bench.enlisted, expected);
    }
    let mut told = case(None);
    told.request.wants_image = false;
    let mut bench = Bench::new(told).knows("stored address", &[1]).with_manager(1, Some(hold(30)));
    bench.run(Time::ZERO);
    let manager = address(1);
    assert_eq!(bench.end, Some(SearchEnd::Told { manager }));
}

#[test]
fn failed_attempts_are_followed_by_pauses_that_grow_and_never_by_the_end() {
    let patience = Duration::from_secs(10);
    let mut search = Search::new(Time::ZERO, case(Some(patience)), [3; 32]);
    let failed = |flash| End { campaign: 5, ending: Ending::new(Reason::WriteFailed, flash, "") };
    let mut now = Time::ZERO;
    for attempt in 0..40u32 {
        search = search.pause().resume(now, failed(FlashState::Mixed));
        let due = search.poll_timeout().unwrap();
        let pause = (FAILURE_PAUSE_MIN * 2u32.pow(attempt.min(6))).min(FAILURE_PAUSE_MAX);
        assert!((pause * 3 / 4..=pause * 5 / 4).contains(&due.since(now)), "{attempt}");
        now = due;
    }
    let mut bench = Bench::of(search, now).knows("stored address", &[1]);
    bench.run(now + DAY);
    assert_eq!(bench.end, None, "a chip that was half written needs help, whatever it takes");
    let paused = bench.search.pause();
    assert_eq!(paused.case().request.finding, Finding::Invalid);
    assert_eq!(paused.case().request.identity.last_end, Some(failed(FlashState::Mixed)));

    let untouched = failed(FlashState::Untouched(Condition::Whole));
    let search = Search::new(Time::ZERO, case(Some(patience)), [3; 32]);
    let mut bench = Bench::of(search.pause().resume(Time::ZERO, untouched), Time::ZERO);
    bench.run(Time::ZERO + patience);
    assert_eq!(bench.end, Some(SearchEnd::NotHelped), "nothing was done: patience is as before");
    assert_eq!(bench.search.pause().case().request.finding, Finding::Unknown);
}

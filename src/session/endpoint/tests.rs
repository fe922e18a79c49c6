#![allow(clippy::unwrap_used)]
use super::*;
use crate::session::peers::{STRANGERS_PER_SOURCE_MAX, UNCONFIRMED_MAX};
use crate::wire::datagram::INITIATION_SIZE;

const MANAGER: [u8; 32] = [1; 32];
const HOST: [u8; 32] = [2; 32];

fn public(secret: [u8; 32]) -> PeerKey {
    *PublicKey::from(&StaticSecret::from(secret)).as_bytes()
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn pair() -> (Endpoint, Endpoint) {
    let mut manager = Endpoint::new(MANAGER, [3; 32]);
    manager.set_stamp(1000);
    let mut host = Endpoint::new(HOST, [4; 32]);
    host.allow(public(MANAGER));
    (manager, host)
}

/// Delivers everything both ways; returns the host's events and all datagrams to the host.
fn run(
    manager: &mut Endpoint,
    host: &mut Endpoint,
    now: Time,
) -> (Vec<SessionEvent>, Vec<Vec<u8>>) {
    let (mut events, mut seen) = (Vec::new(), Vec::new());
    loop {
        let down: Vec<_> = std::iter::from_fn(|| manager.poll_transmit()).collect();
        for transmit in &down {
            events.extend(host.handle_datagram(now, address(1), &transmit.bytes));
            seen.push(transmit.bytes.clone());
        }
        let up: Vec<_> = std::iter::from_fn(|| host.poll_transmit()).collect();
        for transmit in &up {
            assert_eq!(transmit.to, address(1));
            manager.handle_datagram(now, address(2), &transmit.bytes);
        }
        if down.is_empty() && up.is_empty() {
            return (events, seen);
        }
    }
}

#[test]
fn an_instruction_arrives_once_and_only_from_an_allowed_peer() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    let (events, _) = run(&mut manager, &mut host, Time::ZERO);
    assert_eq!(events, [SessionEvent::Connected { peer: public(MANAGER), address: address(1) }]);
    assert!(manager.send(Time::ZERO, &public(HOST), b"begin"));
    let (events, datagrams) = run(&mut manager, &mut host, Time::ZERO);
    let message = SessionEvent::Message {
        peer: public(MANAGER),
        address: address(1),
        bytes: b"begin".to_vec(),
        is_overtaken: false,
    };
    assert_eq!(events, [message]);
    assert_eq!(host.handle_datagram(Time::ZERO, address(9), &datagrams[0]), None);

    let mut stranger = Endpoint::new([7; 32], [8; 32]);
    stranger.connect(Time::ZERO, public(HOST), address(2));
    run(&mut stranger, &mut host, Time::ZERO);
    assert!(!stranger.is_connected(&public(HOST)));
}

/// In one session, and by what the peer says in a newer one.
#[test]
fn a_message_that_comes_late_says_that_it_was_overtaken() {
    let (mut manager, mut host) = pair();
    let say = |manager: &mut Endpoint, host: &mut Endpoint, text: &[u8]| {
        run(manager, host, Time::ZERO);
        assert!(manager.send(Time::ZERO, &public(HOST), text));
        let all: Vec<_> = std::iter::from_fn(|| manager.poll_transmit()).collect();
        all.last().unwrap().bytes.clone()
    };
    let hear = |host: &mut Endpoint, datagram: &[u8]| match host.handle_datagram(
        Time::ZERO,
        address(1),
        datagram,
    ) {
        Some(SessionEvent::Message { bytes, is_overtaken, .. }) => (bytes, is_overtaken),
        other => panic!("{other:?}"),
    };
    manager.connect(Time::ZERO, public(HOST), address(2));
    let [first, second, old] = [b"1", b"2", b"3"].map(|text| say(&mut manager, &mut host, text));
    assert_eq!(hear(&mut host, &second), (b"2".to_vec(), false));
    assert_eq!(hear(&mut host, &first), (b"1".to_vec(), true));

    manager.set_stamp(2000);
    manager.connect(Time::ZERO, public(HOST), address(2));
    let new = say(&mut manager, &mut host, b"4");
    assert_eq!(hear(&mut host, &new), (b"4".to_vec(), false));
    assert_eq!(hear(&mut host, &old), (b"3".to_vec(), true));
}

#[test]
fn replayed_forged_and_cut_datagrams_get_no_answer_and_change_nothing() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    let (_, recorded) = run(&mut manager, &mut host, Time::ZERO);
    let later = Time::from_micros(10_000_000);
    for datagram in &recorded {
        assert_eq!(host.handle_datagram(later, address(9), datagram), None);
        for length in 0..datagram.len() {
            assert_eq!(host.handle_datagram(later, address(9), &datagram[..length]), None);
        }
        for position in 0..datagram.len() {
            let mut forged = datagram.clone();
            forged[position] ^= 1;
            assert_eq!(host.handle_datagram(later, address(9), &forged), None);
        }
    }
    assert_eq!(host.poll_transmit(), None);
    assert_eq!(host.poll_timeout(), None);
    assert!(manager.send(later, &public(HOST), b"still here"));
    assert_eq!(run(&mut manager, &mut host, later).0.len(), 1);
}

/// Initiations of `count` managers with the same key, each with its own handshake.
fn fresh_calls(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|round| {
        let mut manager = Endpoint::new(MANAGER, [9; 32]);
        manager.set_stamp(2000 + round);
        manager.connect(Time::ZERO, public(HOST), address(2));
        manager.poll_transmit().unwrap().bytes
    })
}

#[test]
fn a_flood_of_initiations_costs_a_bounded_number_of_handshakes() {
    let (_, mut host) = pair();
    for call in fresh_calls(500) {
        host.handle_datagram(Time::ZERO, address(1), &call);
    }
    let answers: Vec<_> = std::iter::from_fn(|| host.poll_transmit()).collect();
    let responses = answers.iter().filter(|answer| answer.bytes[0] == 2).count();
    assert_eq!(responses, HANDSHAKES_PER_SECOND as usize);
    assert!(answers.iter().all(|answer| answer.bytes.len() <= INITIATION_SIZE));
    assert_eq!(host.peers.index_count(), UNCONFIRMED_MAX);
}

#[test]
fn copies_of_a_recorded_call_keep_nobody_out() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    let (_, recorded) = run(&mut manager, &mut host, Time::ZERO);
    let later = Time::from_micros(1_000_000);
    for port in 0..10_000 {
        assert_eq!(host.handle_datagram(later, address(port), &recorded[0]), None);
    }
    assert_eq!(host.poll_transmit(), None);
    manager.connect(later, public(HOST), address(2));
    let (_, seen) = run(&mut manager, &mut host, later);
    assert!(seen.iter().all(|datagram| datagram.len() != INITIATION_SIZE + MAC_SIZE), "a cookie");
    assert!(manager.send(later, &public(HOST), b"begin"));
    assert_eq!(run(&mut manager, &mut host, later).0.len(), 1);
}

/// Whoever has the host's public key can make any number of calls, with any address on them.
#[test]
fn the_manager_gets_through_a_flood_of_fresh_calls() {
    let (mut manager, mut host) = pair();
    manager.set_stamp(1_000_000);
    let flood: Vec<_> = fresh_calls(64).collect();
    let now = Time::ZERO;
    for (port, call) in (10..).zip(&flood) {
        host.handle_datagram(now, address(port), call);
    }
    while host.poll_transmit().is_some() {}
    manager.connect(now, public(HOST), address(2));
    let (_, seen) = run(&mut manager, &mut host, now);
    assert_eq!(seen[0].len(), INITIATION_SIZE);
    assert_eq!(seen[1].len(), INITIATION_SIZE + MAC_SIZE, "the second call has the cookie");
    assert!(manager.is_connected(&public(HOST)));
    // A cookie that nobody asked for makes nobody call.
    let reply = cookie::reply(&MacKey::new(COOKIE_LABEL, &public(HOST)), 7, [1; 16], &[2; 16]);
    manager.handle_datagram(now, address(2), &reply.emit());
    assert_eq!(manager.poll_transmit(), None);
}

/// Somebody on the way, or a peer that means harm, asks for a proof again and again.
#[test]
fn endless_cookies_make_nobody_call_without_a_pause() {
    let (mut manager, _) = pair();
    let key = MacKey::new(COOKIE_LABEL, &public(HOST));
    manager.connect(Time::ZERO, public(HOST), address(2));
    let mut calls = 0;
    while let Some(transmit) = manager.poll_transmit() {
        calls += 1;
        let call = Initiation::parse(&transmit.bytes).unwrap();
        let reply = cookie::reply(&key, call.sender, [calls; 16], &call.mac);
        manager.handle_datagram(Time::ZERO, address(2), &reply.emit());
    }
    assert_eq!(calls, 2);
    assert!(manager.poll_timeout().unwrap() > Time::ZERO);
}

/// After minutes without an answer the next call of one of a few hosts is near: it may have booted
/// just now. A host that calls its manager waits longer.
#[test]
fn a_manager_soon_finds_a_host_that_was_away() {
    let longest_pause = |is_manager: bool| {
        let (mut caller, _) = pair();
        if is_manager {
            caller.serve_hosts(2000);
        }
        caller.connect(Time::ZERO, public(HOST), address(2));
        let mut now = Time::ZERO;
        let mut longest = Duration::ZERO;
        while now < Time::from_micros(120_000_000) {
            let next = caller.poll_timeout().unwrap();
            longest = longest.max(next.since(now));
            now = next;
            caller.handle_timeout(now);
            assert!(caller.poll_transmit().is_some());
        }
        longest
    };
    assert!(longest_pause(true) <= Duration::from_millis(313));
    assert!(longest_pause(false) > Duration::from_secs(4));
}

/// A manager cannot ask for growing stamps, so it knows the copies, and prefers what is newer.
#[test]
fn replayed_calls_drive_out_no_newer_one() {
    let (mut caller, mut manager) = pair();
    manager.serve_hosts(2000);
    let recorded: Vec<_> = fresh_calls(UNCONFIRMED_MAX as u64 - 1).collect();
    // As a host that was just started, whose stamps begin anew.
    caller.set_stamp(1);
    caller.connect(Time::ZERO, public(HOST), address(2));
    let call = caller.poll_transmit().unwrap().bytes;
    manager.handle_datagram(Time::ZERO, address(1), &call);
    let answer = manager.poll_transmit().unwrap().bytes;
    for old in &recorded {
        manager.handle_datagram(Time::ZERO, address(9), old);
    }
    while manager.poll_transmit().is_some() {}
    caller.handle_datagram(Time::ZERO, address(2), &answer);
    let (events, _) = run(&mut caller, &mut manager, Time::ZERO);
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn a_forged_source_draws_no_answer_elsewhere() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    run(&mut manager, &mut host, Time::ZERO);
    assert!(manager.send(Time::ZERO, &public(HOST), b"who"));
    let datagram = manager.poll_transmit().unwrap().bytes;
    let victim = SocketAddr::from(([198, 51, 100, 1], 9));
    let event = host.handle_datagram(Time::ZERO, victim, &datagram);
    assert!(matches!(event, Some(SessionEvent::Message { address: at, .. }) if at == address(1)));
    assert!(host.send(Time::ZERO, &public(MANAGER), b"I"));
    assert_eq!(host.poll_transmit().unwrap().to, address(1));
}

#[test]
fn a_stamp_that_is_not_new_is_told_and_answered_by_nothing() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    run(&mut manager, &mut host, Time::ZERO);
    let mut set_back = Endpoint::new(MANAGER, [6; 32]);
    set_back.set_stamp(5);
    set_back.connect(Time::ZERO, public(HOST), address(2));
    let call = set_back.poll_transmit().unwrap().bytes;
    let event = host.handle_datagram(Time::ZERO, address(1), &call);
    let expected = SessionEvent::StaleCall { peer: public(MANAGER), stamp: 6, newest: 1001 };
    assert_eq!(event, Some(expected));
    assert_eq!(host.poll_transmit(), None);
}

#[test]
fn a_call_is_repeated_until_the_peer_answers_and_survives_its_restart() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    let mut now = Time::ZERO;
    for _ in 0..5 {
        while manager.poll_transmit().is_some() {}
        now = manager.poll_timeout().unwrap();
        manager.handle_timeout(now);
    }
    run(&mut manager, &mut host, now);
    assert!(manager.is_connected(&public(HOST)) && manager.poll_timeout().is_none());

    let (_, mut restarted) = pair();
    assert!(manager.send(now, &public(HOST), b"lost"));
    assert!(run(&mut manager, &mut restarted, now).0.is_empty());
    manager.connect(now, public(HOST), address(2));
    run(&mut manager, &mut restarted, now);
    assert!(manager.send(now, &public(HOST), b"found"));
    assert_eq!(run(&mut manager, &mut restarted, now).0.len(), 1);
    assert!(manager.peers.index_count() <= 3);
}

#[test]
fn both_sides_say_who_is_too_old() {
    let (mut manager, mut host) = pair();
    host.speak(Versions { lowest: 7, highest: 9 });
    manager.connect(Time::ZERO, public(HOST), address(2));
    let call = manager.poll_transmit().unwrap().bytes;
    host.handle_datagram(Time::ZERO, address(1), &call);
    let answer = host.poll_transmit().unwrap().bytes;
    manager.handle_datagram(Time::ZERO, address(2), &answer);
    let hello = manager.poll_transmit().unwrap().bytes;
    let Some(SessionEvent::Incompatible { mismatch, .. }) =
        host.handle_datagram(Time::ZERO, address(1), &hello)
    else {
        panic!("the host goes on")
    };
    assert_eq!(mismatch.theirs, Versions::OURS);
    let hello = host.poll_transmit().unwrap().bytes;
    let event = manager.handle_datagram(Time::ZERO, address(2), &hello);
    let Some(SessionEvent::Incompatible { mismatch, .. }) = event else {
        panic!("the manager goes on: {event:?}")
    };
    assert!(mismatch.to_string().contains("update firmcast on this side first"), "{mismatch}");
    assert!(!manager.is_connected(&public(HOST)) && !host.is_connected(&public(MANAGER)));
    assert_eq!((manager.poll_transmit(), host.poll_transmit()), (None, None));
}

/// A caller that hears nothing of versions says its own with later messages, and so often only.
#[test]
fn versions_are_said_again_with_later_messages_until_they_are_answered() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    let call = manager.poll_transmit().unwrap().bytes;
    host.handle_datagram(Time::ZERO, address(1), &call);
    let answer = host.poll_transmit().unwrap().bytes;
    manager.handle_datagram(Time::ZERO, address(2), &answer);
    let mut datagrams_at = |millis: u64| {
        let now = Time::from_micros(millis * 1000);
        assert!(manager.send(now, &public(HOST), b"\x01"));
        std::iter::from_fn(|| manager.poll_transmit()).count()
    };
    assert_eq!(datagrams_at(0), 2, "the versions once, and the message");
    assert_eq!(datagrams_at(0), 1);
    for repeat in 1..=u64::from(VERSIONS_REPEATS_MAX) {
        assert_eq!((datagrams_at(repeat), datagrams_at(repeat)), (2, 1));
    }
    assert_eq!(datagrams_at(1000), 1);
}

/// An older caller begins with an empty message, and gets nothing that it does not know.
#[test]
fn an_older_caller_is_spoken_to_as_ever() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    run(&mut manager, &mut host, Time::ZERO);
    assert!(manager.send(Time::ZERO, &public(HOST), &[]));
    assert!(manager.send(Time::ZERO, &public(HOST), b"\x01"));
    let (events, _) = run(&mut manager, &mut host, Time::ZERO);
    assert!(matches!(events[..], [SessionEvent::Message { .. }]), "{events:?}");
}

#[test]
fn a_doubled_call_leaves_a_session_that_both_sides_use() {
    let (mut manager, mut host) = pair();
    manager.connect(Time::ZERO, public(HOST), address(2));
    host.serve_hosts(HANDSHAKES_PER_SECOND);
    let initiation = manager.poll_transmit().unwrap().bytes;
    for _ in 0..UNCONFIRMED_MAX {
        host.handle_datagram(Time::ZERO, address(1), &initiation);
    }
    let answers: Vec<_> = std::iter::from_fn(|| host.poll_transmit()).collect();
    assert_eq!(answers.len(), 1);
    // A copy that comes from elsewhere, and earlier, does not draw the caller's messages there.
    for answer in &answers {
        manager.handle_datagram(Time::ZERO, address(9), &answer.bytes);
    }
    assert!(manager.send(Time::ZERO, &public(HOST), b"begin"));
    let (events, _) = run(&mut manager, &mut host, Time::ZERO);
    assert!(events.iter().any(|event| matches!(event, SessionEvent::Message { .. })), "{events:?}");
    assert_eq!(host.peers.index_count(), 1);
}

#[test]
fn a_flood_of_self_made_keys_keeps_no_true_stranger_out() {
    const ROOM: usize = 32;
    let mut manager = Endpoint::new(MANAGER, [3; 32]);
    manager.serve_hosts(2000);
    manager.serve_strangers(ROOM);
    let now = Time::ZERO;
    let at = |host: u8, port: u16| SocketAddr::from(([10, 0, 0, host], port));
    // From one place, which hears what it is answered.
    let mut admitted = 0;
    for number in 0..100 {
        let mut caller = Endpoint::new([number + 100; 32], [number; 32]);
        caller.connect(now, public(MANAGER), address(1));
        for _ in 0..2 {
            while let Some(call) = caller.poll_transmit() {
                manager.handle_datagram(now, at(1, number.into()), &call.bytes);
            }
            while let Some(answer) = manager.poll_transmit() {
                caller.handle_datagram(now, address(1), &answer.bytes);
            }
        }
        admitted += usize::from(caller.is_connected(&public(MANAGER)));
    }
    assert_eq!(admitted, ROOM / 2 + STRANGERS_PER_SOURCE_MAX);
    // From anywhere, and deaf.
    for number in 0..100 {
        let mut caller = Endpoint::new([number; 32], [number; 32]);
        caller.connect(now, public(MANAGER), address(1));
        let call = caller.poll_transmit().unwrap();
        manager.handle_datagram(now, at(number, 1), &call.bytes);
        while manager.poll_transmit().is_some() {}
    }
    assert_eq!(manager.strangers().count(), admitted);

    let mut host = Endpoint::new(HOST, [4; 32]);
    host.connect(now, public(MANAGER), address(1));
    run(&mut host, &mut manager, now);
    assert!(host.is_connected(&public(MANAGER)));
    // Whoever leaves makes room for others from there.
    let others: Vec<PeerKey> = manager.strangers().copied().collect();
    others.iter().for_each(|key| manager.forget(key));
    assert!(manager.peers.has_no_strangers());
}

#[test]
fn a_call_to_everybody_is_answered_from_somewhere_and_strangers_have_limited_room() {
    let mut host = Endpoint::new(HOST, [4; 32]);
    let mut manager = Endpoint::new(MANAGER, [3; 32]);
    manager.serve_hosts(HANDSHAKES_PER_SECOND);
    host.connect_anywhere(Time::ZERO, public(MANAGER), address(255));
    let call = host.poll_transmit().unwrap();
    assert_eq!(call.to, address(255));
    manager.handle_datagram(Time::ZERO, address(2), &call.bytes);
    assert_eq!(manager.poll_transmit(), None);

    manager.serve_strangers(1);
    let now = host.poll_timeout().unwrap();
    host.handle_timeout(now);
    let call = host.poll_transmit().unwrap();
    manager.handle_datagram(now, address(2), &call.bytes);
    let answer = manager.poll_transmit().unwrap();
    host.handle_datagram(now, address(1), &answer.bytes);
    assert!(host.is_connected(&public(MANAGER)));
    assert!(std::iter::from_fn(|| host.poll_transmit()).all(|said| said.to == address(1)));

    let mut second = Endpoint::new([5; 32], [6; 32]);
    for room in [false, true] {
        second.disconnect(&public(MANAGER));
        second.connect(Time::ZERO, public(MANAGER), address(1));
        let call = second.poll_transmit().unwrap();
        manager.handle_datagram(Time::ZERO, address(3), &call.bytes);
        assert_eq!(manager.poll_transmit().is_some(), room);
        manager.forget(&public(HOST));
    }
}

#[test]
fn no_answer_is_larger_than_what_asked_for_it() {
    use crate::wire::datagram::RESPONSE_SIZE;
    const { assert!(RESPONSE_SIZE <= INITIATION_SIZE) }
}

/// Somebody who sees the calls, and holds the host's public key, answers each of the first
/// `forged_calls` with cookies of its own: so many before and after the busy host does. Returns
/// with which call the manager gets through.
fn calls_among_forgers(before: u8, after: u8, forged_calls: usize, calls_max: usize) -> usize {
    let (mut manager, mut host) = pair();
    let key = MacKey::new(COOKIE_LABEL, &public(HOST));
    let mut noise = Initiation { sender: 1, noise: [0; 104], mac: [0; 16], cookie_mac: None };
    noise.mac = MacKey::new(MAC_LABEL, &public(HOST)).compute(&noise.checked());
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    let mut now = Time::ZERO;
    manager.connect(now, public(HOST), address(2));
    for calls in 1..=calls_max {
        if manager.transmits.is_empty() {
            now = manager.poll_timeout().unwrap();
            manager.handle_timeout(now);
        }
        let transmit = manager.poll_transmit().unwrap();
        assert_eq!(manager.poll_transmit(), None, "two calls at a time");
        for _ in 0..2 * HANDSHAKES_PER_SECOND {
            host.handle_datagram(now, address(9), &noise.emit());
        }
        while host.poll_transmit().is_some() {}
        let call = Initiation::parse(&transmit.bytes).unwrap();
        let mut forge = |manager: &mut Endpoint, count: u8| {
            for _ in 0..count * u8::from(calls <= forged_calls) {
                let cookie = seed(&mut rng)[..16].try_into().unwrap();
                let reply = cookie::reply(&key, call.sender, cookie, &call.mac);
                manager.handle_datagram(now, address(2), &reply.emit());
            }
        };
        forge(&mut manager, before);
        host.handle_datagram(now, address(1), &transmit.bytes);
        let answer = host.poll_transmit().unwrap().bytes;
        manager.handle_datagram(now, address(2), &answer);
        forge(&mut manager, after);
        if manager.is_connected(&public(HOST)) {
            return calls;
        }
    }
    panic!("not through in {calls_max} calls: {before} before, {after} after");
}

#[test]
fn a_forged_cookie_displaces_no_true_one() {
    assert_eq!(calls_among_forgers(0, 0, 0, 9), 2);
    // One reply, before the true one or after it, costs at most one call.
    assert!(calls_among_forgers(1, 0, 1, 9) <= 3);
    assert!(calls_among_forgers(0, 1, 1, 9) <= 3);
    // One for each call, without end.
    assert!(calls_among_forgers(1, 0, usize::MAX, 9) <= 4);
    assert!(calls_among_forgers(0, 1, usize::MAX, 9) <= 4);
    // Many: they keep the manager out for a while at most.
    calls_among_forgers(5, 5, usize::MAX, 100);
    let forged = 20;
    assert!(calls_among_forgers(100, 100, forged, 99) <= forged + cookie::KEPT_MAX + 1);
}

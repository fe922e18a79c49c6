#![allow(clippy::unwrap_used)]
use super::*;
use std::collections::BTreeMap;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{RData, Record};
use proptest::prelude::*;

const SERVERS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)),
];

fn name(text: &str) -> Name {
    name_of(text).unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 60, data)
}

fn address(owner: &str, text: &str) -> Record {
    let data = match text.parse().unwrap() {
        IpAddr::V4(a) => RData::A(A(a)),
        IpAddr::V6(a) => RData::AAAA(AAAA(a)),
    };
    record(owner, data)
}

fn service(priority: u16, weight: u16, port: u16, target: &str) -> Record {
    let data = RData::SRV(SRV::new(priority, weight, port, name(target)));
    record("_firmcast._udp.example.org", data)
}

fn domain() -> Wanted {
    Wanted::Service { domain: "Example.ORG.".into() }
}

fn host(name: &str) -> Wanted {
    Wanted::Host { name: name.into(), port: 7 }
}

/// Answers from `zone`, as a recursive server does, with what else it wants to say in the
/// additional section.
fn answer(query: &[u8], zone: &[Record], additional: &[Record]) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    let mut owner = question.name().clone();
    for _ in 0..9 {
        let of_owner: Vec<&Record> = zone.iter().filter(|r| r.name == owner).collect();
        for found in &of_owner {
            if found.record_type() == question.query_type() {
                message.add_answer((*found).clone());
            }
        }
        let alias = of_owner.iter().find_map(|r| match &r.data {
            RData::CNAME(CNAME(target)) => Some(((*r).clone(), target.clone())),
            _ => None,
        });
        let Some((found, target)) = alias else { break };
        message.add_answer(found);
        owner = target;
    }
    if zone.iter().all(|r| r.name != owner) {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    message.add_query(question);
    message.add_additionals(additional.iter().cloned());
    message.to_vec().unwrap()
}

/// Runs the search against servers that answer as `serve` says, which is silence for none.
fn run(
    wanted: &Wanted,
    seed: u64,
    mut serve: impl FnMut(&Transmit) -> Option<Vec<u8>>,
) -> (Result<Vec<String>, DnsError>, Duration, usize) {
    let mut now = Time::ZERO;
    let mut resolver = Resolver::new(wanted, &SERVERS, seed, now);
    let mut sent = 0;
    loop {
        if let Some(result) = resolver.poll_result() {
            assert!(resolver.poll_timeout().is_none() && resolver.poll_transmit().is_none());
            let texts = result.map(|found| found.iter().map(SocketAddr::to_string).collect());
            return (texts, now.since(Time::ZERO), sent);
        }
        match resolver.poll_transmit() {
            Some(transmit) => {
                sent += 1;
                if let Some(bytes) = serve(&transmit) {
                    resolver.handle_datagram(now, transmit.destination, &bytes);
                }
            }
            None => {
                now = resolver.poll_timeout().unwrap();
                resolver.handle_timeout(now);
            }
        }
    }
}

#[test]
fn the_question_is_as_the_rfc_has_it() {
    let mut resolver = Resolver::new(&host("a.bc"), &SERVERS, 1, Time::ZERO);
    let transmit = resolver.poll_transmit().unwrap();
    assert_eq!(transmit.destination.to_string(), "192.0.2.1:53");
    let golden = *b"\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01";
    assert_eq!(transmit.bytes[2..], golden);
}

#[test]
fn a_service_becomes_addresses_in_the_order_of_its_records() {
    let zone = [
        service(20, 0, 9, "spare.example.org"),
        service(10, 5, 9848, "first.example.org"),
        service(30, 5, 1, "alias.example.org"),
        address("first.example.org", "192.0.2.11"),
        address("first.example.org", "2001:db8::11"),
        address("spare.example.org", "192.0.2.12"),
        record("alias.example.org", RData::CNAME(CNAME(name("Spare.example.org")))),
    ];
    let expected = ["192.0.2.11:9848", "[2001:db8::11]:9848", "192.0.2.12:9", "192.0.2.12:1"];
    let (found, took, sent) = run(&domain(), 1, |t| Some(answer(&t.bytes, &zone, &[])));
    assert_eq!(
        (found.unwrap(), took, sent),
        (expected.map(str::to_owned).into(), Duration::ZERO, 7)
    );

    // Addresses that the server adds by itself need not be asked for.
    let (found, _, sent) = run(&domain(), 1, |t| Some(answer(&t.bytes, &zone, &zone[3..])));
    assert_eq!((found.unwrap(), sent), (expected.map(str::to_owned).into(), 1));
}

#[test]
fn weights_share_the_load_and_priorities_stand_above_them() {
    let zone = [
        service(1, 0, 1, "a.example.org"),
        service(1, 90, 2, "a.example.org"),
        service(1, 10, 3, "a.example.org"),
        service(0, 0, 4, "a.example.org"),
        address("a.example.org", "192.0.2.11"),
    ];
    let mut seconds = BTreeMap::new();
    for seed in 0..1000 {
        let found = run(&domain(), seed, |t| Some(answer(&t.bytes, &zone, &[]))).0.unwrap();
        assert_eq!((found[0].as_str(), found.len()), ("192.0.2.11:4", 4));
        *seconds.entry(found[1].clone()).or_insert(0) += 1;
    }
    let share = |port: u16| *seconds.get(&format!("192.0.2.11:{port}")).unwrap_or(&0);
    assert!(share(1) < 40 && (820..960).contains(&share(2)), "{seconds:?}");
    assert!((50..160).contains(&share(3)), "{seconds:?}");
}

#[test]
fn silent_and_refusing_servers_are_passed_over_in_bounded_time() {
    let zone = [address("m.example.org", "192.0.2.11")];
    let second = SocketAddr::new(SERVERS[1], SERVER_PORT);
    let (found, took, _) = run(&host("m.example.org"), 1, |t| {
        (t.destination == second).then(|| answer(&t.bytes, &zone, &[]))
    });
    assert_eq!(found.unwrap(), ["192.0.2.11:7"]);
    assert_eq!(took, FIRST_WAIT * 2);

    let refuse = |t: &Transmit| {
        let mut bytes = answer(&t.bytes, &[], &[]);
        bytes[3] = bytes[3] & 0xf0 | 5;
        bytes
    };
    let (found, took, _) = run(&host("m.example.org"), 1, |t| {
        let good = answer(&t.bytes, &zone, &[]);
        Some(if t.destination == second { good } else { refuse(t) })
    });
    assert_eq!((found.unwrap(), took), (vec!["192.0.2.11:7".to_owned()], Duration::ZERO));
    let (found, _, sent) = run(&host("m.example.org"), 1, |t| Some(refuse(t)));
    assert_eq!(found, Err(DnsError::Refused { name: "m.example.org".into(), code: 5 }));
    assert_eq!(sent, 8);

    let (found, took, sent) = run(&host("m.example.org"), 1, |_| None);
    assert_eq!(found, Err(DnsError::NoAnswer { name: "m.example.org".into() }));
    assert!(took <= TOTAL_MAX && sent == 8, "{took:?} {sent}");
}

#[test]
fn what_is_missing_is_said() {
    let nothing = |t: &Transmit| Some(answer(&t.bytes, &[], &[]));
    let (found, ..) = run(&domain(), 1, nothing);
    let text = "there is no SRV record of _firmcast._udp.example.org; add it to the zone";
    assert_eq!(found.unwrap_err().to_string(), text);
    // The service is decidedly not there.
    let none = RData::SRV(SRV::new(0, 0, 0, Name::root()));
    let zone = [record("_firmcast._udp.example.org", none)];
    assert!(run(&domain(), 1, |t| Some(answer(&t.bytes, &zone, &[]))).0.is_err());

    for wrong in ["", "a..b", "a b", "-\u{e9}", &"a.".repeat(128), &"a".repeat(64)] {
        let mut resolver = Resolver::new(&host(wrong), &SERVERS, 1, Time::ZERO);
        assert!(matches!(resolver.poll_result(), Some(Err(DnsError::Name(_)))), "{wrong:?}");
    }
    let mut resolver = Resolver::new(&domain(), &[], 1, Time::ZERO);
    assert_eq!(resolver.poll_result(), Some(Err(DnsError::NoServer)));
}

#[test]
fn only_the_asked_server_with_the_right_id_and_question_is_believed() {
    let zone = [address("m.example.org", "192.0.2.11"), address("n.example.org", "192.0.2.66")];
    let mut resolver = Resolver::new(&host("m.example.org"), &SERVERS, 1, Time::ZERO);
    let transmit = resolver.poll_transmit().unwrap();
    let good = answer(&transmit.bytes, &zone, &[]);
    let mut forged: Vec<(SocketAddr, Vec<u8>)> = vec![
        (SocketAddr::new(SERVERS[1], SERVER_PORT), good.clone()),
        (SocketAddr::new(SERVERS[0], 54), good.clone()),
    ];
    for (offset, bit) in
        [(0, 1), (1, 0x80), (2, 0x80), (2, 0x08), (5, 3), (13, 3), (28, 1), (30, 2)]
    {
        let mut bytes = good.clone();
        bytes[offset] ^= bit;
        forged.push((transmit.destination, bytes));
    }
    for (from, bytes) in forged {
        resolver.handle_datagram(Time::ZERO, from, &bytes);
        assert!(resolver.poll_transmit().is_none(), "{from} was believed with {bytes:02x?}");
    }
    // The next question is the sign that the good one was taken.
    resolver.handle_datagram(Time::ZERO, transmit.destination, &good);
    assert!(resolver.poll_transmit().is_some());
}

#[test]
fn a_cut_answer_gives_what_is_whole_and_floods_are_bounded() {
    let mut zone =
        vec![address("m.example.org", "192.0.2.11"), address("m.example.org", "192.0.2.12")];
    let mut lengths = Vec::new();
    let whole = {
        let question = Question { name: name("m.example.org"), kind: RecordType::A };
        answer(&question.emit(0).unwrap(), &zone, &[])
    };
    for cut in 0..=whole.len() {
        let (found, ..) = run(&host("m.example.org"), 1, |t| {
            let mut bytes = answer(&t.bytes, &zone, &[]);
            bytes.truncate(cut);
            Some(bytes)
        });
        lengths.push(found.map_or(0, |found| found.len()));
    }
    assert!(lengths.is_sorted() && lengths.contains(&1) && *lengths.last().unwrap() == 2);

    zone.clear();
    for number in 0..60 {
        zone.push(service(number, 0, 1, &format!("h{number}.example.org")));
        zone.push(address(&format!("h{number}.example.org"), &format!("192.0.2.{number}")));
    }
    let (found, _, sent) = run(&domain(), 1, |t| Some(answer(&t.bytes, &zone, &[])));
    assert!(found.is_err() || found.unwrap().len() <= ADDRESSES_MAX);
    assert!(sent <= 1 + 2 * TARGETS_MAX * 8);

    // Aliases in a ring.
    let ring = [
        record("m.example.org", RData::CNAME(CNAME(name("n.example.org")))),
        record("n.example.org", RData::CNAME(CNAME(name("m.example.org")))),
    ];
    assert!(run(&host("m.example.org"), 1, |t| Some(answer(&t.bytes, &ring, &[]))).0.is_err());
}

#[test]
fn a_question_in_a_query_is_what_other_software_reads() {
    let question = Question { name: name("m.example.org"), kind: RecordType::SRV };
    let read = Message::from_vec(&question.emit(0x1234).unwrap()).unwrap();
    assert_eq!(read.metadata.id, 0x1234);
    assert!(read.metadata.recursion_desired);
    assert_eq!(read.queries, [Query::query(name("m.example.org"), RecordType::SRV)]);
}

proptest! {
    /// Any bytes behind a right head, and any damage to a right answer: a result in bounded time,
    /// never a panic.
    #[test]
    fn any_answer_is_survived(
        noise in proptest::collection::vec(any::<u8>(), 0..600),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
        seed: u64,
    ) {
        let zone = [service(1, 2, 3, "m.example.org"), address("m.example.org", "192.0.2.11")];
        let (found, took, _) = run(&domain(), seed, |t| {
            let mut bytes = answer(&t.bytes, &zone, &zone[1..]);
            if damage.is_empty() {
                bytes.truncate(t.bytes.len());
                bytes.extend_from_slice(&noise);
            }
            let length = bytes.len() - 2;
            for (place, byte) in &damage {
                bytes[2 + place % length] = *byte;
            }
            Some(bytes)
        });
        prop_assert!(took <= TOTAL_MAX);
        if let Ok(found) = found {
            prop_assert!((1..=ADDRESSES_MAX).contains(&found.len()));
        }
    }
}

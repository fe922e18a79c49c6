#![allow(clippy::unwrap_used)]
use super::answer::{COOKIE, FRAME};
use super::*;
use crate::net::Route;
use dhcproto::v4::{OptionCode, UnknownOption};
use dhcproto::{Decodable, Decoder};
use proptest::prelude::*;

const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

fn seconds(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

/// Returns what a server answers to `query`.
fn answer(query: &[u8], kind: MessageType, more: &[DhcpOption]) -> Vec<u8> {
    let query = Message::decode(&mut Decoder::new(query)).unwrap();
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(query.xid(), none, OWN, SERVER, none, query.chaddr());
    message.set_opcode(Opcode::BootReply);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(SERVER));
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    options.insert(DhcpOption::AddressLeaseTime(3600));
    options.insert(DhcpOption::Router(vec![SERVER]));
    for option in more {
        options.insert(option.clone());
    }
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    bytes
}

fn kind_of(transmit: &Transmit) -> MessageType {
    Message::decode(&mut Decoder::new(&transmit.bytes)).unwrap().opts().msg_type().unwrap()
}

fn bound_client() -> (DhcpClient, Lease) {
    let mut client = DhcpClient::new(MAC, 1, seconds(0));
    let discover = client.poll_transmit().unwrap();
    client.handle_datagram(seconds(1), &answer(&discover.bytes, MessageType::Offer, &[]));
    let request = client.poll_transmit().unwrap();
    assert_eq!(kind_of(&request), MessageType::Request);
    client.handle_datagram(seconds(2), &answer(&request.bytes, MessageType::Ack, &[]));
    let Some(LeaseEvent::Bound(lease)) = client.poll_event() else { panic!("not bound") };
    (client, *lease)
}

#[test]
fn gets_a_lease() {
    let (client, lease) = bound_client();
    assert_eq!(lease.address.to_string(), "192.0.2.77/24");
    assert_eq!(lease.routes[0].to_string(), "0.0.0.0/0 via 192.0.2.1");
    assert_eq!(client.poll_timeout(), seconds(2 + 1800));
}

#[test]
fn a_lease_says_who_can_be_asked_for_help() {
    let lease_with = |more: &[DhcpOption]| {
        let mut client = DhcpClient::new(MAC, 1, seconds(0));
        let discover = client.poll_transmit().unwrap();
        let asked = Message::decode(&mut Decoder::new(&discover.bytes)).unwrap();
        let Some(DhcpOption::ParameterRequestList(asked)) =
            asked.opts().get(OptionCode::ParameterRequestList)
        else {
            panic!("asks for nothing")
        };
        for code in [6, 15, MANAGER_OPTION] {
            assert!(asked.contains(&OptionCode::from(code)), "does not ask for {code}");
        }
        let offer = answer(&discover.bytes, MessageType::Offer, more);
        Answer::parse(&offer, MAC, client.transaction).unwrap().lease().unwrap()
    };
    let manager = |text: &[u8]| {
        let code = OptionCode::Unknown(MANAGER_OPTION);
        DhcpOption::Unknown(UnknownOption::new(code, text.to_vec()))
    };
    let server = |end| Ipv4Addr::new(192, 0, 2, end);
    let lease = lease_with(&[
        DhcpOption::DomainName("Rack7.Example.\0".into()),
        DhcpOption::DomainNameServer(vec![
            Ipv4Addr::UNSPECIFIED,
            server(1),
            server(2),
            server(3),
            server(4),
        ]),
        manager(b"firmcast://192.0.2.9:7/\0"),
    ]);
    assert_eq!(lease.domain.as_deref(), Some("rack7.example"));
    assert_eq!(lease.dns, [server(1), server(2), server(3)]);
    assert_eq!(lease.manager.unwrap().to_string(), "firmcast://192.0.2.9:7");

    let lease = lease_with(&[
        DhcpOption::DomainName("two words\u{1b}[2J".into()),
        manager(b"http://192.0.2.9\xff"),
    ]);
    assert_eq!((lease.domain, lease.dns, lease.manager), (None, Vec::new(), None));
}

#[test]
fn an_unreadable_name_or_name_server_costs_no_lease() {
    let mut client = DhcpClient::new(MAC, 1, seconds(0));
    let discover = client.poll_transmit().unwrap();
    let mut offer = answer(&discover.bytes, MessageType::Offer, &[]);
    let end = offer.iter().rposition(|&byte| byte == 255).unwrap();
    offer.splice(end.., [15, 2, b'a', 0xff, 6, 5, 192, 0, 2, 1, 9, 255]);
    let lease = Answer::parse(&offer, MAC, client.transaction).unwrap().lease().unwrap();
    assert_eq!((lease.domain, lease.dns), (None, Vec::new()));
}

#[test]
fn asks_for_ever_with_growing_pauses_that_differ_by_seed() {
    let pauses = |seed| {
        let mut client = DhcpClient::new(MAC, seed, seconds(0));
        let mut now = seconds(0);
        let mut pauses = Vec::new();
        for _ in 0..50 {
            let sent = client.poll_transmit().unwrap();
            assert_eq!(kind_of(&sent), MessageType::Discover);
            assert_eq!(sent.destination.to_string(), "255.255.255.255:67");
            let next = client.poll_timeout();
            pauses.push(next.since(now).as_millis());
            now = next;
            client.handle_timeout(now);
        }
        pauses
    };
    let (one, two) = (pauses(1), pauses(2));
    assert!((750..=1250).contains(&one[0]) && (12_000..=20_000).contains(&one[49]));
    assert_ne!(one, two);
    assert_eq!(one, pauses(1));
}

#[test]
fn starts_anew_after_a_nak_and_after_silence() {
    let mut client = DhcpClient::new(MAC, 1, seconds(0));
    let discover = client.poll_transmit().unwrap();
    client.handle_datagram(seconds(0), &answer(&discover.bytes, MessageType::Offer, &[]));
    let request = client.poll_transmit().unwrap();
    client.handle_datagram(seconds(0), &answer(&request.bytes, MessageType::Nak, &[]));
    let discover = client.poll_transmit().unwrap();
    assert_eq!(kind_of(&discover), MessageType::Discover);

    client.handle_datagram(seconds(0), &answer(&discover.bytes, MessageType::Offer, &[]));
    let mut kinds = Vec::new();
    for _ in 0..=REQUESTS_MAX {
        kinds.push(kind_of(&client.poll_transmit().unwrap()));
        client.handle_timeout(client.poll_timeout());
    }
    assert_eq!(kinds[..REQUESTS_MAX as usize], [MessageType::Request; REQUESTS_MAX as usize]);
    assert_eq!(kinds[REQUESTS_MAX as usize], MessageType::Discover);
}

#[test]
fn prolongs_the_lease_and_gives_it_up_in_time() {
    let (mut client, lease) = bound_client();
    let start = seconds(2);
    client.handle_timeout(client.poll_timeout());
    let renew = client.poll_transmit().unwrap();
    assert_eq!(renew.destination, SocketAddrV4::new(SERVER, SERVER_PORT));
    let mut clone_of_answer = answer(&renew.bytes, MessageType::Ack, &[]);
    // An ack for another address prolongs nothing.
    clone_of_answer[19] ^= 1;
    client.handle_datagram(client.poll_timeout(), &clone_of_answer);
    assert!(client.poll_event().is_none());

    let mut saw_broadcast = false;
    let mut steps = 0;
    while client.poll_event() != Some(LeaseEvent::Lost) {
        let now = client.poll_timeout();
        assert!(now.since(start) <= lease.lifetime, "asked on after the lease was over");
        client.handle_timeout(now);
        let sent = client.poll_transmit().unwrap();
        saw_broadcast |= sent.destination.ip().is_broadcast();
        steps += 1;
        assert!(steps < 100);
    }
    assert!(saw_broadcast);

    let (mut client, _) = bound_client();
    let now = client.poll_timeout();
    client.handle_timeout(now);
    let renew = client.poll_transmit().unwrap();
    client.handle_datagram(now, &answer(&renew.bytes, MessageType::Ack, &[]));
    assert!(matches!(client.poll_event(), Some(LeaseEvent::Bound(_))));
    assert_eq!(client.poll_timeout(), now + Duration::from_secs(1800));
}

#[test]
fn classless_routes_stand_above_the_router() {
    let mut client = DhcpClient::new(MAC, 1, seconds(0));
    let discover = client.poll_transmit().unwrap();
    let mut offer = answer(&discover.bytes, MessageType::Offer, &[]);
    let end = offer.iter().rposition(|&byte| byte == 255).unwrap();
    // 198.51.100.0/24 via 192.0.2.9, and 203.0.113.0/24 on the link (RFC 3442).
    let option = [121, 16, 24, 198, 51, 100, 192, 0, 2, 9, 24, 203, 0, 113, 0, 0, 0, 0, 255];
    offer.splice(end.., option);
    let parsed = Answer::parse(&offer, MAC, client.transaction).unwrap();
    let routes: Vec<String> = parsed.lease().unwrap().routes.iter().map(Route::to_string).collect();
    assert_eq!(routes, ["198.51.100.0/24 via 192.0.2.9", "203.0.113.0/24"]);
    client.handle_datagram(seconds(0), &offer);
    assert_eq!(kind_of(&client.poll_transmit().unwrap()), MessageType::Request);
}

#[test]
fn refuses_what_is_not_for_it() {
    let mut client = DhcpClient::new(MAC, 1, seconds(0));
    let discover = client.poll_transmit().unwrap();
    let good = answer(&discover.bytes, MessageType::Offer, &[]);
    for (offset, what) in [(0, "op"), (2, "hlen"), (4, "xid"), (30, "chaddr"), (236, "cookie")] {
        let mut bad = good.clone();
        bad[offset] ^= 0x40;
        assert!(Answer::parse(&bad, MAC, client.transaction).is_none(), "{what}");
    }
    for mask in [[255, 0, 255, 0], [0, 0, 0, 0]] {
        let odd =
            answer(&discover.bytes, MessageType::Offer, &[DhcpOption::SubnetMask(mask.into())]);
        client.handle_datagram(seconds(0), &odd);
        assert!(client.poll_transmit().is_none());
    }
    for end in 0..good.len() {
        let _ = Answer::parse(&good[..end], MAC, client.transaction).map(|answer| answer.lease());
    }
}

proptest! {
    /// Options of any bytes behind a head that passes: never a panic, never a lease that makes no
    /// sense.
    #[test]
    fn any_options_are_survived(options in proptest::collection::vec(any::<u8>(), 0..400)) {
        let client = DhcpClient::new(MAC, 1, seconds(0));
        let mut bytes = vec![0; FIXED_LEN];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[4..8].copy_from_slice(&client.transaction.to_be_bytes());
        bytes[28..34].copy_from_slice(&MAC.0);
        bytes[236..].copy_from_slice(&COOKIE);
        bytes.extend_from_slice(&options);
        let answer = Answer::parse(&bytes, MAC, client.transaction);
        if let Some(lease) = answer.and_then(|answer| answer.lease()) {
            prop_assert!(lease.renew_after <= lease.rebind_after);
            prop_assert!(lease.rebind_after <= lease.lifetime);
        }
    }

    /// Known codes with wrong lengths are where a parser that trusts lengths falls.
    #[test]
    fn known_options_of_any_length_are_survived(
        options in proptest::collection::vec(
            (0usize..12, proptest::collection::vec(any::<u8>(), 0..40)),
            0..12,
        ),
    ) {
        let mut client = DhcpClient::new(MAC, 1, seconds(0));
        let discover = client.poll_transmit().unwrap();
        let mut bytes = answer(&discover.bytes, MessageType::Offer, &[]);
        bytes.truncate(FIXED_LEN);
        for (which, value) in &options {
            let code = WANTED.iter().chain(FRAME).nth(*which).unwrap();
            bytes.extend_from_slice(&[u8::from(*code), value.len() as u8]);
            bytes.extend_from_slice(value);
        }
        client.handle_datagram(seconds(0), &bytes);
    }
}

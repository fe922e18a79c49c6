//! The real firmcastd on loopback: what it tells by hand, and what it does while nobody talks to
//! it.
//!
//! | file | what it has |
//! | --- | --- |
//! | `process.rs` | the agent as a process of the test |
//! | `check.rs` | what `firmcastd check` tells |
//! | `key_cuts.rs` | the agent is killed while it makes its key |
//! | `recovery_by_hand.rs` | recovery begun on a machine that runs |
#![allow(clippy::unwrap_used)]

#[path = "agent/check.rs"]
mod check;
#[path = "agent/key_cuts.rs"]
mod key_cuts;
#[path = "agent/process.rs"]
mod process;
#[path = "agent/recovery_by_hand.rs"]
mod recovery_by_hand;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use firmcast::keys::{HostSecretKey, ManagerSecretKey, SecretKey as _, load_secret};
use firmcast::session::discovery::Discovery;
use firmcast::session::{Endpoint, SessionEvent};
use firmcast::time::Time;
use firmcast::wire::answer::{Answer, Environment, Identity};
use firmcast::wire::command::Command as Instruction;
use rand_core::RngCore as _;

use process::{Agent, PATIENCE, manager, run, start_on_inherited_socket, text};

fn manager_socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// Asks the agent who it is, in a session.
fn query(agent: &Agent, manager: &ManagerSecretKey, host_key: &Path) -> Identity {
    let host: HostSecretKey = load_secret(host_key).unwrap();
    let host = *host.public().exchange();
    let mut endpoint = Endpoint::new(*manager.exchange(), [5; 32]);
    endpoint.set_stamp(1_000_000);
    let socket = manager_socket();
    let started = Instant::now();
    endpoint.connect(Time::ZERO, host, agent.address);
    let mut buffer = [0; 2048];
    while started.elapsed() < PATIENCE {
        let now = Time::ZERO + started.elapsed();
        endpoint.handle_timeout(now);
        while let Some(transmit) = endpoint.poll_transmit() {
            socket.send_to(&transmit.bytes, transmit.to).unwrap();
        }
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        match endpoint.handle_datagram(now, from, &buffer[..length]) {
            Some(SessionEvent::Connected { .. }) => {
                assert!(endpoint.send(now, &host, &Instruction::Query.emit()));
            }
            Some(SessionEvent::Message { bytes, .. }) => match Answer::parse(&bytes).unwrap() {
                Answer::Identity(identity) => return identity,
                other => panic!("{other:?}"),
            },
            Some(SessionEvent::StaleCall { .. } | SessionEvent::Incompatible { .. }) | None => {}
        }
    }
    panic!("no answer");
}

#[test]
fn a_socket_from_systemd_is_used_instead_of_an_own_one() {
    let folder = tempfile::tempdir().unwrap();
    let (_, manager) = manager();
    let agent = start_on_inherited_socket(folder.path(), &manager);
    let identity = query(&agent, &manager, &folder.path().join("host.key"));
    assert_eq!(identity.environment, Environment::NormalOs);
    assert_eq!(agent.sockets().len(), 1, "{:?}", agent.sockets());
}

#[test]
fn an_idle_agent_has_one_thread_and_one_socket_and_does_not_wake_up() {
    let folder = tempfile::tempdir().unwrap();
    let (_, manager) = manager();
    let agent = Agent::start(folder.path(), &manager);
    let identity = query(&agent, &manager, &folder.path().join("host.key"));
    assert_eq!(identity.environment, Environment::NormalOs);
    assert_ne!(identity.boot_id, [0; 16]);

    // The answer was the last thing; give it time to go back to sleep.
    std::thread::sleep(Duration::from_millis(300));
    let before = agent.context_switches();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(agent.context_switches(), before);
    assert!(agent.proc_file("status").contains("Threads:\t1\n"));
    assert_eq!(agent.sockets().len(), 1, "{:?}", agent.sockets());
}

#[test]
fn garbage_gets_no_answer_and_a_manager_still_does() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rng, manager) = manager();
    let agent = Agent::start(folder.path(), &manager);
    let socket = manager_socket();
    for round in 0..3000u32 {
        let mut datagram = vec![0; rng.next_u32() as usize % 2000];
        rng.fill_bytes(&mut datagram);
        if let [kind, version, ..] = datagram.as_mut_slice() {
            (*kind, *version) = ((round % 9) as u8, 1);
        }
        socket.send_to(&datagram, agent.address).unwrap();
    }
    let silence = socket.recv_from(&mut [0; 2048]).unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);

    let discovery = Discovery::new(&manager, 1, [8; 16]);
    let mut buffer = [0; 2048];
    let started = Instant::now();
    let length = loop {
        // The first may fall out of a socket buffer that is still full.
        assert!(started.elapsed() < PATIENCE, "no answer");
        socket.send_to(&discovery.request(), agent.address).unwrap();
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            break length;
        }
    };
    let (key, _) = discovery.open(&manager, &buffer[..length]).unwrap();
    let host: HostSecretKey = load_secret(&folder.path().join("host.key")).unwrap();
    assert_eq!(key, host.public());
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.lines().count() < 10, "a flood fills the log:\n{log}");
}

#[test]
fn mistakes_are_told_in_one_line_with_the_right_status() {
    let cases = [
        (
            &["--config", "/none.toml"][..],
            1,
            "firmcastd: error: cannot read the configuration /none.toml: No such file",
        ),
        (&["--json"][..], 2, "firmcastd: unknown argument --json; see firmcastd --help"),
        (&["check", "--config"][..], 2, "firmcastd: --config needs the name of a file"),
    ];
    for (arguments, status, message) in cases {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(text(&output.stderr).starts_with(message), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
    let output = run(&["check"], &[("FIRMCAST_FLSH", "BIOS")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("unknown key `FIRMCAST_FLSH` in the environment"));
    // What the fleet's programs read, and what programs are told that the agent runs.
    let output = run(&["check"], &[("FIRMCAST_FLEET_STORE", "x"), ("FIRMCAST_HOST", "x")]);
    assert!(!text(&output.stderr).contains("in the environment"), "{}", text(&output.stderr));
    assert_eq!(
        text(&run(&["--version"], &[]).stdout),
        concat!("firmcastd ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

//! A way that takes no pieces: longer datagrams than its frames, in a network namespace.
#![allow(clippy::unwrap_used)]

use std::env;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use firmcast::net::batch_sender::{BatchSender, SEND_BATCH_MAX};
use firmcast::net::udp::{self, UdpOptions};
use mio::net::UdpSocket;

const NAME: &str = "where_pieces_are_refused_the_same_datagrams_arrive_one_by_one";
const INSIDE: &str = "FIRMCAST_TEST_INSIDE";
const MTU: usize = 1280;

#[test]
fn where_pieces_are_refused_the_same_datagrams_arrive_one_by_one() {
    if env::var_os(INSIDE).is_some() {
        return send_and_receive();
    }
    let own = ["--map-root-user", "--net", "sh", "-c"];
    let prepare = format!("ip link set lo mtu {MTU} up");
    let probe = Command::new("unshare").args(own).arg(&prepare).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: this needs network namespaces and ip(8)");
        return;
    }
    let script = format!("{prepare} && exec \"$0\" --exact {NAME} --nocapture");
    let mut room = Command::new("unshare");
    room.args(own).arg(script).arg(env::current_exe().unwrap()).env(INSIDE, "1");
    assert!(room.status().unwrap().success());
}

fn send_and_receive() {
    let (sender, receiver) = (open(), open());
    let to = receiver.local_addr().unwrap();
    let mut batch = BatchSender::new();
    // What fits a frame goes in pieces, of 54 of these, where the kernel has them.
    let short = datagrams(1200);
    let first = batch.send(&sender, to, &short).unwrap();
    assert!(first == 54 || first == SEND_BATCH_MAX, "{first}");
    assert_arrived(&receiver, &short[..first]);
    // What does not is refused as a piece; by itself the kernel sends it in fragments.
    let long = datagrams(1400);
    assert_eq!(batch.send(&sender, to, &long).unwrap(), SEND_BATCH_MAX);
    assert_arrived(&receiver, &long);
    // From then on pieces are not tried again.
    assert_eq!(batch.send(&sender, to, &short).unwrap(), SEND_BATCH_MAX);
    assert_arrived(&receiver, &short);
}

fn open() -> UdpSocket {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let options = UdpOptions { receive_buffer_bytes: Some(1 << 20), ..UdpOptions::at(listen) };
    udp::open(&options).unwrap()
}

fn datagrams(size: usize) -> Vec<Vec<u8>> {
    (0..SEND_BATCH_MAX).map(|number| vec![number as u8; size]).collect()
}

fn assert_arrived(receiver: &UdpSocket, datagrams: &[Vec<u8>]) {
    let mut buffer = [0; 2048];
    for datagram in datagrams {
        let received = (0..400).find_map(|_| match receiver.recv_from(&mut buffer) {
            Ok((size, _)) => Some(buffer[..size].to_vec()),
            Err(_) => {
                std::thread::sleep(Duration::from_millis(5));
                None
            }
        });
        assert!(received.as_ref() == Some(datagram), "datagram {}", datagram[0]);
    }
}

//! How fast one core sends a stream: `send_rate pieces|single ADDRESS:PORT`.
//!
//! The real sender seals the fragments of 64 MiB for one host that never answers, without a cap,
//! and the real socket sends them to the address, again and again. Prints one JSON object: payload
//! in Gbit/s by the clock and by processor time, which includes what the kernel does on the way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use firmcast::net::batch_sender::{BatchSender, SEND_BATCH_MAX};
use firmcast::net::udp::{self, UdpOptions};
use firmcast::time::Time;
use firmcast::transfer::{HostId, Sender, SenderConfig};
use firmcast::wire::broadcast::{FecScheme, GroupKey, TransferParameters, fragment_size_for_mtu};
use mio::net::UdpSocket;
use nix::sys::resource::{UsageWho, getrusage};

const PAYLOAD_SIZE: usize = 64 << 20;
const ROUNDS: u32 = 5;
const SEND_BUFFER_BYTES: usize = 1 << 20;
const MTU: u16 = 1500;
const IPV4_HEADER_SIZE: u16 = 20;
const NO_CAP_BITS_PER_S: u64 = 1_000_000_000_000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [how, to] = &arguments[..] else { bail!("usage: send_rate pieces|single ADDRESS:PORT") };
    let mut batches = match how.as_str() {
        "pieces" => BatchSender::new(),
        "single" => BatchSender::one_by_one(),
        _ => bail!("expected pieces or single, got {how}"),
    };
    let to: SocketAddr = to.parse().context("expected an address and a port")?;
    let listen = UdpOptions::at("0.0.0.0:0".parse()?);
    let socket = udp::open(&UdpOptions { send_buffer_bytes: Some(SEND_BUFFER_BYTES), ..listen })?;
    let payload = Arc::new(vec![0x5a; PAYLOAD_SIZE]);
    let (mut elapsed, mut processor, mut calls) = (Duration::ZERO, Duration::ZERO, 0);
    for campaign in 1..=ROUNDS {
        let mut sender = sender(&payload, campaign.into())?;
        let (began, before) = (Instant::now(), processor_time()?);
        calls += pour(&mut sender, &mut batches, &socket, to)?;
        elapsed += began.elapsed();
        processor += processor_time()? - before;
    }
    let gbit = f64::from(ROUNDS) * PAYLOAD_SIZE as f64 * 8.0 / 1e9;
    println!(
        "{{\"gbit_per_s\":{:.2},\"gbit_per_processor_s\":{:.2},\"calls\":{calls}}}",
        gbit / elapsed.as_secs_f64(),
        gbit / processor.as_secs_f64()
    );
    Ok(())
}

fn sender(payload: &Arc<Vec<u8>>, campaign: u64) -> anyhow::Result<Sender> {
    let parameters = TransferParameters {
        campaign,
        group_key: GroupKey::new([campaign as u8; 32]),
        payload_size_bytes: PAYLOAD_SIZE as u32,
        fragment_size_bytes: fragment_size_for_mtu(MTU, IPV4_HEADER_SIZE).context("the MTU")?,
        fec: FecScheme::Fitted,
    };
    let config = SenderConfig { rate_cap_bits_per_s: NO_CAP_BITS_PER_S, is_polite: false };
    let mut sender = Sender::new(Arc::clone(payload), &parameters, config)?;
    sender.add_host(Time::ZERO, HostId(0))?;
    sender.start(Time::ZERO);
    Ok(sender)
}

/// Sends each source fragment once; returns the number of system calls.
fn pour(
    sender: &mut Sender,
    batches: &mut BatchSender,
    socket: &UdpSocket,
    to: SocketAddr,
) -> anyhow::Result<u32> {
    let (began, mut calls) = (Instant::now(), 0);
    let mut batch: Vec<Vec<u8>> = Vec::new();
    while sender.stats().fragments < sender.source_fragments().into() {
        let now = Time::ZERO + began.elapsed();
        while batch.len() < SEND_BATCH_MAX {
            let Some(datagram) = sender.poll_transmit(now) else { break };
            batch.push(datagram);
        }
        calls += 1;
        match batches.send(socket, to, &batch) {
            Ok(count) => drop(batch.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error).context("cannot send"),
        }
    }
    Ok(calls)
}

/// User and system time of this process.
fn processor_time() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = [usage.user_time(), usage.system_time()];
    Ok(seconds
        .iter()
        .map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64))
        .sum())
}

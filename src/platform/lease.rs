//! Drives the DHCP client of one interface: its socket, and the thread that prolongs the lease.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rand_core::{OsRng, RngCore};
use socket2::{Domain, Protocol, Socket, Type};

use super::PlatformError;
use super::hold::block_signals_of_thread;
use super::modules::wait_readable;
use crate::net::dhcp::{CLIENT_PORT, DATAGRAM_SIZE_MAX, DhcpClient, Lease, LeaseEvent};
use crate::net::{MacAddress, NetError, Netlink, link};
use crate::reason::with_causes;
use crate::time::Time;

/// Most datagrams taken at once.
const DATAGRAMS_PER_STEP_MAX: usize = 64;

/// How long the renewing thread waits after its poll failed.
const RENEW_PAUSE: Duration = Duration::from_secs(10);

/// The DHCP client of one interface.
#[derive(Debug)]
pub(super) struct DhcpDriver {
    client: DhcpClient,
    socket: UdpSocket,
    origin: Instant,
    pub(super) index: u32,
    pub(super) interface: String,
}

impl DhcpDriver {
    /// Returns a client for the interface, which must be up.
    pub(super) fn open(
        index: u32,
        interface: &str,
        mac: MacAddress,
    ) -> Result<Self, PlatformError> {
        let socket = open_socket(interface)
            .map_err(|source| NetError::Socket { action: "open a socket for DHCP", source })?;
        let client = DhcpClient::new(mac, OsRng.next_u64(), Time::ZERO);
        let interface = interface.to_owned();
        Ok(DhcpDriver { client, socket, origin: Instant::now(), index, interface })
    }

    /// Receives, acts on time, sends. Returns what has happened.
    pub(super) fn step(&mut self) -> Option<LeaseEvent> {
        let mut buffer = [0; DATAGRAM_SIZE_MAX + 1];
        for _ in 0..DATAGRAMS_PER_STEP_MAX {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, _)) => self.client.handle_datagram(self.now(), &buffer[..length]),
                Err(_) => break,
            }
        }
        self.client.handle_timeout(self.now());
        if let Some(transmit) = self.client.poll_transmit()
            && let Err(error) = self.socket.send_to(&transmit.bytes, transmit.destination)
        {
            log::debug!("DHCP on {}: {error}", self.interface);
        }
        self.client.poll_event()
    }

    /// When to call [`DhcpDriver::step`] even if nothing is received.
    pub(super) fn deadline(&self) -> Instant {
        self.origin + self.client.poll_timeout().since(Time::ZERO)
    }

    fn now(&self) -> Time {
        Time::from_micros(self.origin.elapsed().as_micros() as u64)
    }

    /// Keeps the lease for as long as the process lives, in a thread of its own, because leases are
    /// renewed in hours and the recovery loop has more to do.
    pub(super) fn keep(self, lease: Lease) {
        let run = move || {
            block_signals_of_thread();
            self.renew_for_ever(lease);
        };
        if let Err(error) = std::thread::Builder::new().name("dhcp".into()).spawn(run) {
            log::warn!(
                "cannot start a thread to prolong the DHCP lease ({error}); it will run out"
            );
        }
    }

    fn renew_for_ever(mut self, lease: Lease) {
        let mut current = Some(lease);
        loop {
            if let Err(error) = wait_readable(&[self.socket.as_fd()], self.deadline()) {
                log::warn!("DHCP on {}: {}", self.interface, with_causes(&error));
                std::thread::sleep(RENEW_PAUSE);
            }
            let changed = match self.step() {
                None => continue,
                Some(LeaseEvent::Bound(lease)) => self.replace(&mut current, Some(*lease)),
                Some(LeaseEvent::Lost) => self.replace(&mut current, None),
            };
            if let Err(error) = changed {
                log::warn!("DHCP on {}: {}", self.interface, with_causes(&error));
            }
        }
    }

    fn replace(
        &self,
        current: &mut Option<Lease>,
        next: Option<Lease>,
    ) -> Result<(), PlatformError> {
        let old = current.as_ref().map(|lease| lease.address);
        let new = next.as_ref().map(|lease| lease.address);
        *current = next;
        if old == new {
            return Ok(());
        }
        let mut netlink = Netlink::open()?;
        if let Some(address) = old {
            log::warn!("the DHCP lease of {address} is over");
            link::remove_address(&mut netlink, self.index, &address)?;
        }
        match current {
            Some(lease) => configure(&mut netlink, self.index, &self.interface, lease),
            None => Ok(()),
        }
    }
}

impl AsFd for DhcpDriver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Gives the interface the lease's address and routes.
pub(super) fn configure(
    netlink: &mut Netlink,
    index: u32,
    interface: &str,
    lease: &Lease,
) -> Result<(), PlatformError> {
    log::info!("DHCP server {} gives {} to {interface}", lease.server, lease.address);
    if let Some(mtu) = lease.mtu {
        link::set_mtu(netlink, interface, index, mtu.into());
    }
    link::address(netlink, index, &[lease.address], &lease.routes)?;
    Ok(())
}

/// A plain UDP socket does, because the client asks for broadcast answers; bound to the device, it
/// sends and receives before there is an address.
fn open_socket(interface: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
    Ok(socket.into())
}

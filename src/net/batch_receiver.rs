//! Receives many datagrams by one system call (recvmmsg(2)).

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use mio::net::UdpSocket;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

/// Maximum number of datagrams that one call takes from the kernel.
pub const RECEIVE_BATCH_MAX: usize = 32;

/// Room for datagrams, made once.
#[derive(Debug)]
pub struct BatchReceiver {
    /// What the kernel never filled takes no memory.
    room: Vec<u8>,
    slot_size: usize,
}

impl BatchReceiver {
    /// Returns room for [`RECEIVE_BATCH_MAX`] datagrams of up to `datagram_size_max` bytes each.
    pub fn new(datagram_size_max: usize) -> Self {
        let slot_size = datagram_size_max.max(1);
        Self { room: vec![0; slot_size * RECEIVE_BATCH_MAX], slot_size }
    }

    /// Gives up to [`RECEIVE_BATCH_MAX`] datagrams to `take`, with their senders, in the order in
    /// which they came. Longer ones than there is room for are dropped. Does not wait.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when there is no datagram.
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
        mut take: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<()> {
        let mut slots: Vec<[IoSliceMut<'_>; 1]> = self
            .room
            .chunks_exact_mut(self.slot_size)
            .map(|slot| [IoSliceMut::new(slot)])
            .collect();
        // Made anew: the kernel leaves the length of the last address in it, and the next socket
        // may have longer ones.
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slots.len(), None);
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmmsg(socket.as_raw_fd(), &mut headers, slots.iter_mut(), flags, None)?;
        for message in received.filter(|message| !message.flags.contains(MsgFlags::MSG_TRUNC)) {
            if let Some(from) = message.address.as_ref().and_then(socket_address) {
                take(from, message.iovs().next().unwrap_or_default());
            }
        }
        Ok(())
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::udp::{self, UdpOptions};

    fn open(listen: &str) -> UdpSocket {
        udp::open(&UdpOptions::at(listen.parse().unwrap())).unwrap()
    }

    /// What one receiver gets from one socket until it has no more.
    fn drain(batch: &mut BatchReceiver, socket: &UdpSocket) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            match batch.receive(socket, |from, datagram| all.push((from, datagram.to_vec()))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn all_datagrams_come_in_order_with_their_senders_from_sockets_of_either_family() {
        let mut batch = BatchReceiver::new(200);
        for listen in ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0"] {
            let receiver = open(listen);
            let senders = [open(listen), open(listen)];
            let to = receiver.local_addr().unwrap();
            let mut expected = Vec::new();
            for number in 0..3 * RECEIVE_BATCH_MAX + 1 {
                let sender = &senders[number % 2];
                // 0 to 202 bytes: an empty one among them, and some that are too long.
                let datagram = vec![number as u8; number * 20 % 203];
                sender.send_to(&datagram, to).unwrap();
                if datagram.len() <= 200 {
                    expected.push((sender.local_addr().unwrap(), datagram));
                }
            }
            assert!(expected.len() < 3 * RECEIVE_BATCH_MAX + 1, "some are too long");
            assert_eq!(drain(&mut batch, &receiver), expected);
        }
    }
}

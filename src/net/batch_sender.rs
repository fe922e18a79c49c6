//! Sends many datagrams to one address by few system calls.
//!
//! Where the kernel can, it gets datagrams of one length as one piece, with the length at which to
//! cut it (`UDP_SEGMENT` of linux/udp.h, generic segmentation offload). A piece passes the kernel's
//! network code once; on the wire each datagram is a packet, as if it had been sent by itself.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, getsockopt, sendmmsg, sendmsg, sockopt,
};

/// Maximum number of datagrams that one call hands to the kernel. The kernel cuts a piece into so
/// many (`UDP_MAX_SEGMENTS`; 128 in newer ones).
pub const SEND_BATCH_MAX: usize = 64;

/// Maximum number of bytes in one piece: a UDP payload in an IPv4 packet (RFC 768, RFC 791).
const PIECE_SIZE_MAX: usize = 65_535 - 20 - 8;

/// Sends to one socket, in pieces until the kernel refuses one.
#[derive(Debug)]
pub struct BatchSender {
    headers: MultiHeaders<SockaddrStorage>,
    /// Whether pieces may be tried; not known before the first.
    pieces: Option<bool>,
}

impl Default for BatchSender {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchSender {
    /// Returns a sender with room for [`SEND_BATCH_MAX`] datagrams.
    pub fn new() -> Self {
        BatchSender { headers: MultiHeaders::preallocate(SEND_BATCH_MAX, None), pieces: None }
    }

    /// Returns a sender that never tries pieces, to compare with.
    pub fn one_by_one() -> Self {
        BatchSender { pieces: Some(false), ..Self::new() }
    }

    /// Hands up to [`SEND_BATCH_MAX`] of `datagrams` to the kernel for `destination`; returns how
    /// many it took. Those may be fewer than asked: a piece is one call, and the socket's buffer
    /// may be full.
    ///
    /// # Errors
    /// The kernel's, when it took none; `WouldBlock` when the buffer is full.
    pub fn send<B: AsRef<[u8]>>(
        &mut self,
        socket: &UdpSocket,
        destination: SocketAddr,
        datagrams: &[B],
    ) -> io::Result<usize> {
        let datagrams = &datagrams[..datagrams.len().min(SEND_BATCH_MAX)];
        let piece = piece_of(datagrams);
        if piece.len() < 2 || !self.may_send_pieces(socket) {
            return self.send_each(socket, destination, datagrams);
        }
        match send_piece(socket, destination, piece) {
            Ok(()) => Ok(piece.len()),
            Err(errno) if is_refusal(errno) => {
                // What cannot be sent one by one either says nothing about pieces.
                let count = self.send_each(socket, destination, datagrams)?;
                self.pieces = Some(false);
                Ok(count)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Asks the kernel once. One older than 4.18 does not know the control message, ignores it, and
    /// would send the piece as one large datagram.
    fn may_send_pieces(&mut self, socket: &UdpSocket) -> bool {
        let knows = || getsockopt(socket, sockopt::UdpGsoSegment).is_ok();
        *self.pieces.get_or_insert_with(knows)
    }

    fn send_each<B: AsRef<[u8]>>(
        &mut self,
        socket: &UdpSocket,
        destination: SocketAddr,
        datagrams: &[B],
    ) -> io::Result<usize> {
        if datagrams.is_empty() {
            return Ok(0);
        }
        let slices: Vec<[IoSlice<'_>; 1]> =
            datagrams.iter().map(|datagram| [IoSlice::new(datagram.as_ref())]).collect();
        let addresses = vec![Some(SockaddrStorage::from(destination)); slices.len()];
        let descriptor = socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(descriptor, &mut self.headers, &slices, addresses, [], flags)?;
        Ok(sent.count())
    }
}

/// Returns the first datagrams that make one piece: of one length, where the last may be shorter.
fn piece_of<B: AsRef<[u8]>>(datagrams: &[B]) -> &[B] {
    let sizes = datagrams.iter().map(|datagram| datagram.as_ref().len());
    let whole_size = sizes.clone().next().unwrap_or(0);
    let (mut count, mut piece_size) = (0, 0);
    for size in sizes {
        piece_size += size;
        if size == 0 || size > whole_size || piece_size > PIECE_SIZE_MAX {
            break;
        }
        count += 1;
        if size < whole_size {
            break;
        }
    }
    &datagrams[..count]
}

/// The kernel takes a piece whole or not at all.
fn send_piece<B: AsRef<[u8]>>(
    socket: &UdpSocket,
    destination: SocketAddr,
    piece: &[B],
) -> Result<(), Errno> {
    let slices: Vec<IoSlice<'_>> =
        piece.iter().map(|datagram| IoSlice::new(datagram.as_ref())).collect();
    let cut_at = slices.first().map_or(0, |slice| slice.len()) as u16;
    let control = [ControlMessage::UdpGsoSegments(&cut_at)];
    let to = SockaddrStorage::from(destination);
    let flags = MsgFlags::MSG_DONTWAIT;
    sendmsg(socket.as_raw_fd(), &slices, &control, flags, Some(&to)).map(drop)
}

/// Whether an error may mean that the way to the destination takes no pieces: it encrypts (IPsec),
/// its device computes no checksums, its frames are shorter than a datagram, or a filter of system
/// calls is in between (`udp_send_skb` in net/ipv4/udp.c).
fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::udp::{self, UdpOptions};
    use proptest::prelude::*;
    use std::time::Duration;

    fn open() -> UdpSocket {
        let listen = UdpOptions::at("127.0.0.1:0".parse().unwrap());
        udp::open(&UdpOptions { receive_buffer_bytes: Some(4 << 20), ..listen }).unwrap()
    }

    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 4096];
        for _ in 0..400 {
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) => return buffer[..length].to_vec(),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("nothing received");
    }

    fn send_all(mut batch: BatchSender, to: &UdpSocket, datagrams: &[Vec<u8>]) {
        let (sender, to) = (open(), to.local_addr().unwrap());
        let mut done = 0;
        while done < datagrams.len() {
            let count = batch.send(&sender, to, &datagrams[done..]).unwrap();
            assert!((1..=SEND_BATCH_MAX).contains(&count));
            done += count;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Runs of one length, as a stream has them, and what comes between them.
        #[test]
        fn the_same_datagrams_arrive_in_pieces_and_one_by_one(
            runs in proptest::collection::vec((0usize..1500, 1usize..70), 1..6),
        ) {
            let datagrams: Vec<Vec<u8>> = runs
                .iter()
                .flat_map(|&(size, count)| std::iter::repeat_n(size, count))
                .enumerate()
                .map(|(number, size)| (0..size).map(|at| (at * 7 + number) as u8).collect())
                .collect();
            for batch in [BatchSender::new(), BatchSender::one_by_one()] {
                let receiver = open();
                send_all(batch, &receiver, &datagrams);
                for datagram in &datagrams {
                    prop_assert_eq!(&receive(&receiver), datagram);
                }
            }
        }
    }

    #[test]
    fn a_piece_is_of_one_length_and_fits_a_packet() {
        let count = |sizes: &[usize]| {
            let datagrams: Vec<Vec<u8>> = sizes.iter().map(|size| vec![0; *size]).collect();
            piece_of(&datagrams).len()
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[0, 0]), 0);
        assert_eq!(count(&[7, 7, 7]), 3);
        assert_eq!(count(&[7, 7, 3, 7]), 3);
        assert_eq!(count(&[7, 7, 8]), 2);
        assert_eq!(count(&[7, 7, 0]), 2);
        assert_eq!(count(&[1472; 64]), 44);
        assert_eq!(count(&[65_507, 1]), 1);
    }

    #[test]
    fn a_kernel_that_knows_pieces_gets_them() {
        let (sender, receiver) = (open(), open());
        let to = receiver.local_addr().unwrap();
        let datagrams = vec![vec![1; 1472]; SEND_BATCH_MAX];
        let mut batch = BatchSender::new();
        let knows = getsockopt(&sender, sockopt::UdpGsoSegment).is_ok();
        let expected = if knows { 44 } else { SEND_BATCH_MAX };
        assert_eq!(batch.send(&sender, to, &datagrams).unwrap(), expected);
        assert_eq!(batch.send(&sender, to, &[b""; 0]).unwrap(), 0);
    }

    #[test]
    fn a_destination_that_takes_nothing_does_not_end_pieces() {
        let (sender, receiver) = (open(), open());
        let mut batch = BatchSender::new();
        let datagrams = vec![vec![1; 1472]; 10];
        let nowhere = "127.0.0.1:0".parse().unwrap();
        assert!(batch.send(&sender, nowhere, &datagrams).is_err());
        let pieces = batch.pieces;
        assert_eq!(batch.send(&sender, receiver.local_addr().unwrap(), &datagrams).unwrap(), 10);
        assert_eq!(batch.pieces, pieces);
    }
}

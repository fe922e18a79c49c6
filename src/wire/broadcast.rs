//! The two datagrams that go to many hosts at once (docs/PROTOCOL.md, section "Broadcast
//! datagrams").
//!
//! They stand outside the sessions and are sealed with ChaCha20-Poly1305 (RFC 8439) under the group
//! key, which each host gets inside its own session and which serves one campaign only. The nonce
//! is made of type, block and number. That is safe without a counter: in one campaign the plaintext
//! of a fragment number never changes, so a rebroadcast is the identical datagram, and the number
//! of a status request is never used for a second one.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;

use super::codec::{DecodeError, Reader, Writer};
use super::status_request::STATUS_REQUEST_SIZE;
use super::{MESSAGE_SIZE_MAX, PROTOCOL_VERSION};

pub use super::fragment_status::{FragmentRange, FragmentStatus, Missing};
pub use super::status_request::{ANSWER_WINDOW_MS_MAX, StatusRequest};
pub use super::transfer_parameters::{
    FRAGMENT_SIZE_MAX, FRAGMENT_SIZE_MIN, FecScheme, GroupKey, PAYLOAD_SIZE_MAX, TransferParameters,
};

/// Bytes in front of the sealed data; they are its additional authenticated data.
pub const BROADCAST_HEADER_SIZE: usize = 12;

/// Bytes of the authentication tag behind the sealed data.
pub const BROADCAST_TAG_SIZE: usize = 16;

/// Maximum number of bytes of any datagram: a fragment on a path with large frames.
pub const DATAGRAM_SIZE_MAX: usize =
    BROADCAST_HEADER_SIZE + FRAGMENT_SIZE_MAX as usize + BROADCAST_TAG_SIZE;

const _: () = assert!(MESSAGE_SIZE_MAX < DATAGRAM_SIZE_MAX);

const FRAGMENT: u8 = 6;
const STATUS_REQUEST: u8 = 7;
const UDP_HEADER_SIZE: u16 = 8;

/// Returns the payload bytes per fragment that fill an IP datagram of `mtu` bytes exactly (or all
/// but one, sizes are even).
///
/// `ip_header_size` is 20 for IPv4 and 40 for IPv6. `None` when the path is too narrow for
/// [`FRAGMENT_SIZE_MIN`].
pub fn fragment_size_for_mtu(mtu: u16, ip_header_size: u16) -> Option<u16> {
    let overhead = (BROADCAST_HEADER_SIZE + BROADCAST_TAG_SIZE) as u16 + UDP_HEADER_SIZE;
    let room = mtu.checked_sub(ip_header_size)?.checked_sub(overhead)? & !1;
    (room >= FRAGMENT_SIZE_MIN).then_some(room.min(FRAGMENT_SIZE_MAX))
}

/// Why a broadcast datagram was not opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Damaged, forged, or sealed with the key of another campaign.
    #[error("the datagram does not open with the campaign's group key")]
    Sealed,
    /// Sealed with the right key, but what is inside is not a message of this version.
    #[error("the sealed message is malformed")]
    Malformed(#[from] DecodeError),
}

/// A broadcast datagram whose header was read and whose seal is still closed.
///
/// | bytes | field |
/// | --- | --- |
/// | 0 | type u8: 6 fragment, 7 status request |
/// | 1 | version u8: 1 |
/// | 2..4 | fragment: block u16; status request: reserved, zero |
/// | 4..8 | campaign u32: the low half. Two campaigns that agree in it still have different keys |
/// | 8..12 | fragment: number in the block u32; status request: round u32 |
/// | 12.. | sealed data: a piece of the payload or of its erasure code; or a [`StatusRequest`] |
/// | last 16 | tag |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast<'a> {
    /// Fragment or status request.
    pub kind: BroadcastKind,
    campaign_low: u32,
    datagram: &'a [u8],
}

/// Which of the two, with what stands in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastKind {
    /// A numbered fragment.
    Fragment {
        /// Code block.
        block: u16,
        /// Number in the block: first the source fragments, then the repair fragments.
        number: u32,
    },
    /// A question to all hosts of the campaign.
    StatusRequest {
        /// Its number, never used twice in a campaign.
        round: u32,
    },
}

impl<'a> Broadcast<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`DecodeError`] when the datagram is too short, of another type or version, or uses reserved
    /// bytes.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let kind = reader.u8()?;
        let version = reader.u8()?;
        if version != PROTOCOL_VERSION {
            return Err(DecodeError::UnknownVersion(version));
        }
        let block = reader.u16()?;
        let campaign_low = reader.u32()?;
        let number = reader.u32()?;
        reader.take(BROADCAST_TAG_SIZE)?;
        let kind = match kind {
            FRAGMENT => BroadcastKind::Fragment { block, number },
            STATUS_REQUEST if block != 0 => return Err(DecodeError::Value("reserved")),
            STATUS_REQUEST => BroadcastKind::StatusRequest { round: number },
            other => return Err(DecodeError::UnknownType(other)),
        };
        Ok(Self { kind, campaign_low, datagram })
    }

    /// Size of what is sealed, in bytes.
    pub fn data_size(&self) -> usize {
        self.datagram.len() - BROADCAST_HEADER_SIZE - BROADCAST_TAG_SIZE
    }
}

/// Seals and opens the broadcast datagrams of one campaign.
///
/// *Less safe* is ring's word for a key whose user makes the nonces: here they are of the header.
pub struct GroupCipher {
    campaign_low: u32,
    key: LessSafeKey,
}

impl fmt::Debug for GroupCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupCipher(..)")
    }
}

impl GroupCipher {
    /// Returns the cipher of a campaign with its key.
    pub fn new(campaign: u64, key: &GroupKey) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.bytes())
            .expect("a group key has the size that the cipher wants");
        Self { campaign_low: campaign as u32, key: LessSafeKey::new(key) }
    }

    /// Returns whether the datagram says that it is of this campaign.
    pub fn is_of_campaign(&self, sealed: &Broadcast<'_>) -> bool {
        sealed.campaign_low == self.campaign_low
    }

    /// Returns the datagram of a fragment: always the same for the same number of a campaign.
    pub fn seal_fragment(&self, block: u16, number: u32, data: &[u8]) -> Vec<u8> {
        self.seal(FRAGMENT, block, number, data)
    }

    /// Returns the datagram of a status request, whose round no other request of the campaign may
    /// have.
    pub fn seal_status_request(&self, request: &StatusRequest) -> Vec<u8> {
        self.seal(STATUS_REQUEST, 0, request.round, &request.emit())
    }

    /// Opens a datagram into `data`, which must be [`Broadcast::data_size`] long.
    ///
    /// # Errors
    /// [`OpenError::Sealed`]; what is then in `data` means nothing.
    pub fn open(&self, sealed: &Broadcast<'_>, data: &mut [u8]) -> Result<(), OpenError> {
        let (header, rest) = sealed.datagram.split_at(BROADCAST_HEADER_SIZE);
        let (body, tag) = rest.split_at(sealed.data_size());
        let tag = tag.try_into().map_err(|_| OpenError::Sealed)?;
        data.copy_from_slice(body);
        self.key
            .open_in_place_separate_tag(nonce(header), Aad::from(header), tag, data, 0..)
            .map(|_| ())
            .map_err(|_| OpenError::Sealed)
    }

    /// Opens a status request.
    ///
    /// # Errors
    /// [`OpenError::Sealed`], or [`OpenError::Malformed`] when it is not a status request of this
    /// version.
    pub fn open_status_request(&self, sealed: &Broadcast<'_>) -> Result<StatusRequest, OpenError> {
        let BroadcastKind::StatusRequest { round } = sealed.kind else {
            return Err(DecodeError::Value("type").into());
        };
        if sealed.data_size() != STATUS_REQUEST_SIZE {
            return Err(DecodeError::Value("size").into());
        }
        let mut data = [0; STATUS_REQUEST_SIZE];
        self.open(sealed, &mut data)?;
        Ok(StatusRequest::parse(round, &data)?)
    }

    fn seal(&self, kind: u8, block: u16, number: u32, data: &[u8]) -> Vec<u8> {
        let mut datagram =
            Vec::with_capacity(BROADCAST_HEADER_SIZE + data.len() + BROADCAST_TAG_SIZE);
        let header = Writer::new()
            .u8(kind)
            .u8(PROTOCOL_VERSION)
            .u16(block)
            .u32(self.campaign_low)
            .u32(number)
            .finish();
        datagram.extend_from_slice(&header);
        datagram.extend_from_slice(data);
        let sealed = &mut datagram[BROADCAST_HEADER_SIZE..];
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(&header), Aad::from(&header), sealed)
            .expect("a datagram is far shorter than the cipher's limit");
        datagram.extend_from_slice(tag.as_ref());
        datagram
    }
}

/// Type, five zero bytes, block, number: unique for each plaintext under a campaign's key.
fn nonce(header: &[u8]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = header[0];
    nonce[6..8].copy_from_slice(&header[2..4]);
    nonce[8..12].copy_from_slice(&header[8..12]);
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const CAMPAIGN: u64 = 0x0102_0304_0506_0708;

    fn cipher() -> GroupCipher {
        GroupCipher::new(CAMPAIGN, &GroupKey::new([7; 32]))
    }

    fn request() -> StatusRequest {
        StatusRequest {
            round: 9,
            answer_window_ms: 50,
            sent_fragments: 1000,
            repeat_complete: true,
        }
    }

    #[test]
    fn sizes_fill_the_path_exactly() {
        assert_eq!(fragment_size_for_mtu(1500, 20), Some(1444));
        assert_eq!(fragment_size_for_mtu(1500, 40), Some(1424));
        assert_eq!(fragment_size_for_mtu(9000, 20), Some(FRAGMENT_SIZE_MAX));
        assert_eq!(fragment_size_for_mtu(576, 20), Some(520));
        assert_eq!(fragment_size_for_mtu(500, 20), None);
        assert_eq!(fragment_size_for_mtu(0, 20), None);
        let datagram = cipher().seal_fragment(0, 0, &[0; 1444]);
        assert_eq!(datagram.len() + 20 + 8, 1500);
    }

    #[test]
    fn any_changed_byte_or_other_key_closes_the_seal() {
        let fragment = cipher().seal_fragment(2, 0x10, b"firmware");
        let other = GroupCipher::new(CAMPAIGN, &GroupKey::new([8; 32]));
        let mut data = [0; 8];
        cipher().open(&Broadcast::parse(&fragment).unwrap(), &mut data).unwrap();
        assert_eq!(&data, b"firmware");
        let sealed = Broadcast::parse(&fragment).unwrap();
        assert_eq!(other.open(&sealed, &mut data), Err(OpenError::Sealed));
        for position in 0..fragment.len() {
            let mut changed = fragment.clone();
            changed[position] ^= 1;
            if let Ok(sealed) = Broadcast::parse(&changed) {
                assert_eq!(cipher().open(&sealed, &mut data), Err(OpenError::Sealed));
            }
        }
    }

    #[test]
    fn a_status_request_comes_back_and_every_truncation_fails() {
        let datagram = cipher().seal_status_request(&request());
        let sealed = Broadcast::parse(&datagram).unwrap();
        assert_eq!(cipher().open_status_request(&sealed), Ok(request()));
        for length in 0..datagram.len() {
            let opened = Broadcast::parse(&datagram[..length])
                .map_err(OpenError::from)
                .and_then(|sealed| cipher().open_status_request(&sealed));
            assert!(opened.is_err(), "length {length}");
        }
    }

    #[test]
    fn sealed_nonsense_is_malformed() {
        let (window, flags) = ([0, 0, 0x27, 0x11, 0, 0, 0, 0, 0, 0, 0, 0], [0xff; 12]);
        for data in [&window[..], &flags[..]] {
            let datagram = cipher().seal(STATUS_REQUEST, 0, 1, data);
            let opened = cipher().open_status_request(&Broadcast::parse(&datagram).unwrap());
            assert!(matches!(opened, Err(OpenError::Malformed(_))));
        }
        let reserved = cipher().seal(STATUS_REQUEST, 1, 1, &[0; 12]);
        assert_eq!(Broadcast::parse(&reserved), Err(DecodeError::Value("reserved")));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            kind in 5u8..9,
        ) {
            if bytes.len() > 1 {
                bytes[0] = kind;
                bytes[1] = PROTOCOL_VERSION;
            }
            if let Ok(sealed) = Broadcast::parse(&bytes) {
                let mut data = vec![0; sealed.data_size()];
                prop_assert!(cipher().open(&sealed, &mut data).is_err());
                prop_assert!(cipher().open_status_request(&sealed).is_err());
            }
            let _ = StatusRequest::parse(1, &bytes);
        }
    }
}

//! The datagrams of sessions and discovery before anything is decrypted (docs/PROTOCOL.md, section
//! "Datagrams").
//!
//! ```text
//! every datagram      | type u8 | version u8 | ...
//! 1 initiation        | 01 | version | 0 u16 | sender u32 | Noise message 104 | mac 16 |
//!                     128 bytes; with a cookie: | cookie mac 16 |    144 bytes
//! 2 response          | 02 | version | 0 u16 | sender u32 | receiver u32 | Noise message 48 |
//!                     mac 16 |    76 bytes
//! 3 transport         | 03 | version | 0 u16 | receiver u32 | counter u64 |
//!                     sealed message + tag 16 |
//! 4 discovery request | 04 | version | 0 u16 | stamp u64 | nonce 16 | signer 8 | signature 64 |
//!                     mac 16 | cookie mac 16, or zeros | versions 2, or zeros | zeros |
//!                     1232 bytes
//! 5 discovery answer  | 05 | version | 0 u16 | nonce 16 | Noise message |
//! 6 fragment, 7 status request: see `broadcast`
//! 8 cookie            | 08 | version | 0 u16 | receiver u32 | cookie 16 | mac 16 |    40 bytes
//! ```
//! `sender` and `receiver` are session indices that their owner chose at random.

use super::PROTOCOL_VERSION;
use super::codec::{DecodeError, Reader, Writer};
use super::versions::Versions;

/// Size of a keyed check value.
pub const MAC_SIZE: usize = 16;

/// Size of a handshake initiation.
pub const INITIATION_SIZE: usize = 128;

/// Size of a handshake response.
pub const RESPONSE_SIZE: usize = 76;

/// Size of a discovery request: it is padded, so that no answer is larger than what asked for it.
pub const DISCOVERY_REQUEST_SIZE: usize = 1232;

/// Bytes of a transport datagram that are not the message: header and tag.
pub const TRANSPORT_OVERHEAD: usize = 32;

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const TRANSPORT: u8 = 3;
const DISCOVERY_REQUEST: u8 = 4;
const DISCOVERY_ANSWER: u8 = 5;
const COOKIE: u8 = 8;

/// First message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiation {
    /// Session index of the sender.
    pub sender: u32,
    /// First Noise message, its payload the 8-byte stamp.
    pub noise: [u8; 104],
    /// Keyed check over all that stands before it.
    pub mac: [u8; MAC_SIZE],
    /// Check over the same bytes that shows that the sender has received a cookie.
    pub cookie_mac: Option<[u8; MAC_SIZE]>,
}

impl Initiation {
    /// Reads an initiation.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = header(bytes, INITIATION)?;
        let has_cookie = bytes.len() != INITIATION_SIZE;
        let initiation = Self {
            sender: reader.u32()?,
            noise: reader.array()?,
            mac: reader.array()?,
            cookie_mac: has_cookie.then(|| reader.array()).transpose()?,
        };
        reader.finish()?;
        Ok(initiation)
    }

    /// Returns the bytes that the mac is over.
    pub fn checked(&self) -> Vec<u8> {
        start(INITIATION).u32(self.sender).bytes(&self.noise).finish()
    }

    /// Writes the initiation.
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = start(INITIATION);
        writer.u32(self.sender).bytes(&self.noise).bytes(&self.mac);
        writer.bytes(self.cookie_mac.as_ref().map_or(&[], |mac| mac)).finish()
    }
}

/// Second message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Session index of the sender.
    pub sender: u32,
    /// Session index from the initiation.
    pub receiver: u32,
    /// Second Noise message, its payload empty.
    pub noise: [u8; 48],
    /// Keyed check over all that stands before it.
    pub mac: [u8; MAC_SIZE],
}

impl Response {
    /// Reads a response.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = header(bytes, RESPONSE)?;
        let response = Self {
            sender: reader.u32()?,
            receiver: reader.u32()?,
            noise: reader.array()?,
            mac: reader.array()?,
        };
        reader.finish()?;
        Ok(response)
    }

    /// Returns the bytes that the mac is over.
    pub fn checked(&self) -> Vec<u8> {
        start(RESPONSE).u32(self.sender).u32(self.receiver).bytes(&self.noise).finish()
    }

    /// Writes the response.
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = start(RESPONSE);
        writer.u32(self.sender).u32(self.receiver).bytes(&self.noise).bytes(&self.mac).finish()
    }
}

/// A message of an established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Session index of the receiver.
    pub receiver: u32,
    /// Counter of the sender in this session: the Noise nonce; never repeated.
    pub counter: u64,
    /// Sealed message.
    pub sealed: Vec<u8>,
}

impl Transport {
    /// Reads a transport datagram.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = header(bytes, TRANSPORT)?;
        let (receiver, counter) = (reader.u32()?, reader.u64()?);
        let sealed = reader.rest().to_vec();
        if sealed.len() < MAC_SIZE {
            return Err(DecodeError::Truncated { needed: MAC_SIZE, left: sealed.len() });
        }
        Ok(Self { receiver, counter, sealed })
    }

    /// Writes the transport datagram.
    pub fn emit(&self) -> Vec<u8> {
        start(TRANSPORT).u32(self.receiver).u64(self.counter).bytes(&self.sealed).finish()
    }
}

/// A manager's broadcast question who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryRequest {
    /// Microseconds since 1970 at the manager; grows with each request, so that a replay is
    /// ignored.
    pub stamp: u64,
    /// Random; names this request in the answers.
    pub nonce: [u8; 16],
    /// First bytes of SHA-256 of the manager's public key: which of the trusted keys to check.
    pub signer: [u8; 8],
    /// Ed25519 signature over all that stands before it.
    pub signature: [u8; 64],
    /// Keyed check over all that stands before it.
    pub mac: [u8; MAC_SIZE],
    /// Check over the same bytes that shows that the sender has received a cookie.
    pub cookie_mac: Option<[u8; MAC_SIZE]>,
    /// What the manager understands, if it says so: an older host does not heed such a request.
    pub versions: Option<Versions>,
}

impl DiscoveryRequest {
    /// Reads a discovery request.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() != DISCOVERY_REQUEST_SIZE {
            return Err(DecodeError::Value("discovery request size"));
        }
        let mut reader = header(bytes, DISCOVERY_REQUEST)?;
        let request = Self {
            stamp: reader.u64()?,
            nonce: reader.array()?,
            signer: reader.array()?,
            signature: reader.array()?,
            mac: reader.array()?,
            cookie_mac: Some(reader.array()?).filter(|mac| *mac != [0; MAC_SIZE]),
            versions: Some(Versions::read(&mut reader)?).filter(|versions| versions.highest != 0),
        };
        if reader.rest().iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Value("discovery padding"));
        }
        Ok(request)
    }

    /// Returns the bytes that the signature is over.
    pub fn signed(&self) -> Vec<u8> {
        let mut writer = start(DISCOVERY_REQUEST);
        writer.u64(self.stamp).bytes(&self.nonce).bytes(&self.signer).finish()
    }

    /// Returns the bytes that the mac is over.
    pub fn checked(&self) -> Vec<u8> {
        let mut bytes = self.signed();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Writes the request with its padding.
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = self.checked();
        bytes.extend_from_slice(&self.mac);
        bytes.extend_from_slice(&self.cookie_mac.unwrap_or_default());
        let versions = self.versions.map(|versions| [versions.lowest, versions.highest]);
        bytes.extend_from_slice(&versions.unwrap_or_default());
        bytes.resize(DISCOVERY_REQUEST_SIZE, 0);
        bytes
    }
}

/// A host's sealed answer to a discovery request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryAnswer {
    /// Nonce of the request.
    pub nonce: [u8; 16],
    /// One-way Noise message whose payload is the identity.
    pub noise: Vec<u8>,
}

impl DiscoveryAnswer {
    /// Reads a discovery answer.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = header(bytes, DISCOVERY_ANSWER)?;
        Ok(Self { nonce: reader.array()?, noise: reader.rest().to_vec() })
    }

    /// Writes the answer.
    pub fn emit(&self) -> Vec<u8> {
        start(DISCOVERY_ANSWER).bytes(&self.nonce).bytes(&self.noise).finish()
    }
}

/// What a busy responder says to an initiation or a discovery request instead of looking at it:
/// send it again with the proof that this has reached you.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieReply {
    /// Session index of the initiation, or the first four bytes of the discovery request's nonce.
    pub receiver: u32,
    /// What the proof is made with.
    pub cookie: [u8; MAC_SIZE],
    /// Keyed check over all that stands before it and the mac of what is replied to.
    pub mac: [u8; MAC_SIZE],
}

impl CookieReply {
    /// Reads a cookie reply.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = header(bytes, COOKIE)?;
        let reply = Self { receiver: reader.u32()?, cookie: reader.array()?, mac: reader.array()? };
        reader.finish()?;
        Ok(reply)
    }

    /// Returns the bytes that the mac is over; `mac` is that of what is replied to.
    pub fn checked(&self, mac: &[u8; MAC_SIZE]) -> Vec<u8> {
        start(COOKIE).u32(self.receiver).bytes(&self.cookie).bytes(mac).finish()
    }

    /// Writes the reply.
    pub fn emit(&self) -> Vec<u8> {
        start(COOKIE).u32(self.receiver).bytes(&self.cookie).bytes(&self.mac).finish()
    }
}

fn header(bytes: &[u8], kind: u8) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match (reader.u8()?, reader.u8()?, reader.u16()?) {
        (found, _, _) if found != kind => Err(DecodeError::UnknownType(found)),
        (_, version, _) if version != PROTOCOL_VERSION => Err(DecodeError::UnknownVersion(version)),
        (_, _, 0) => Ok(reader),
        _ => Err(DecodeError::Value("reserved")),
    }
}

fn start(kind: u8) -> Writer {
    let mut writer = Writer::new();
    writer.u8(kind).u8(PROTOCOL_VERSION).u16(0);
    writer
}

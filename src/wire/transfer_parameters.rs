//! What a host must know to receive a transfer: the figures, and the key of the campaign's
//! broadcast datagrams.

use std::fmt;

use zeroize::Zeroize;

use super::codec::{DecodeError, Reader, Writer};

/// The largest payload of one transfer, in bytes.
pub const PAYLOAD_SIZE_MAX: u32 = 256 * 1024 * 1024;

/// The smallest fragment, in bytes of payload: it fits the 576 bytes that every IPv4 path carries.
pub const FRAGMENT_SIZE_MIN: u16 = 512;

/// The largest fragment, in bytes of payload: it fills an IPv4 datagram on a path of 9000 bytes
/// MTU.
pub const FRAGMENT_SIZE_MAX: u16 = 8944;

/// The key that all hosts of one campaign share. Drawn anew for each campaign, wiped when dropped,
/// never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupKey([u8; 32]);

impl GroupKey {
    /// Returns the key that is these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for GroupKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey(..)")
    }
}

/// How a payload is cut into code blocks, and how many repair fragments a block has
/// (docs/PROTOCOL.md, section "Transfer").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FecScheme {
    /// 0: few large blocks, whose fragments take turns; as many repair fragments as source
    /// fragments, as far as the field has room.
    #[default]
    Doubled,
    /// 1: smaller blocks, one behind the other, so that one is worked on while the next is on its
    /// way; as many repair fragments as fit beside the source fragments into the smallest transform
    /// of the code that takes a third of them, which takes less time. Only for hosts that speak
    /// [`EXCERPTS`](super::versions::EXCERPTS).
    Fitted,
}

impl FecScheme {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::Doubled),
            1 => Ok(Self::Fitted),
            _ => Err(DecodeError::Value("FEC scheme")),
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Doubled => 0,
            Self::Fitted => 1,
        }
    }
}

/// What a host must know to receive a transfer; sent inside its session. All other figures follow
/// from these.
///
/// | bytes | field |
/// | --- | --- |
/// | 0..8 | campaign u64 |
/// | 8..40 | group key |
/// | 40..44 | payload size in bytes u32, 1 to [`PAYLOAD_SIZE_MAX`] |
/// | 44..46 | payload bytes per fragment u16, even |
///
/// A fragment holds [`FRAGMENT_SIZE_MIN`] to [`FRAGMENT_SIZE_MAX`] bytes. The FEC
/// scheme is not among these bytes: *join* has it behind its other fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferParameters {
    /// Campaign whose fragments these are.
    pub campaign: u64,
    /// Key of the campaign's fragments and status requests.
    pub group_key: GroupKey,
    /// Size of the payload in bytes.
    pub payload_size_bytes: u32,
    /// Payload bytes in each fragment; the last one is filled up with zeros.
    pub fragment_size_bytes: u16,
    /// Which blocks and repair fragments there are.
    pub fec: FecScheme,
}

impl TransferParameters {
    /// Size on the wire.
    pub const SIZE: usize = 46;

    /// Reads the parameters.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not exactly [`TransferParameters::SIZE`] or a size is out
    /// of bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let parameters = Self {
            campaign: reader.u64()?,
            group_key: GroupKey(reader.array()?),
            payload_size_bytes: reader.u32()?,
            fragment_size_bytes: reader.u16()?,
            fec: FecScheme::Doubled,
        };
        reader.finish()?;
        parameters.check()?;
        Ok(parameters)
    }

    /// Writes the parameters.
    pub fn emit(&self) -> Vec<u8> {
        Writer::new()
            .u64(self.campaign)
            .bytes(&self.group_key.0)
            .u32(self.payload_size_bytes)
            .u16(self.fragment_size_bytes)
            .finish()
    }

    /// Returns whether both sizes are within their bounds.
    ///
    /// # Errors
    /// [`DecodeError::Value`] names the field that is not.
    pub fn check(&self) -> Result<(), DecodeError> {
        if !(1..=PAYLOAD_SIZE_MAX).contains(&self.payload_size_bytes) {
            return Err(DecodeError::Value("payload size"));
        }
        let size = self.fragment_size_bytes;
        if !(FRAGMENT_SIZE_MIN..=FRAGMENT_SIZE_MAX).contains(&size) || !size.is_multiple_of(2) {
            return Err(DecodeError::Value("fragment size"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_parameters() {
        let parameters = TransferParameters {
            campaign: 0x0102_0304_0506_0708,
            group_key: GroupKey::new([7; 32]),
            payload_size_bytes: 0x0100_0000,
            fragment_size_bytes: 1440,
            fec: FecScheme::Doubled,
        };
        let bytes = parameters.emit();
        assert_eq!(
            hex(&bytes),
            format!("0102030405060708{}0100000005a0", "07".repeat(32)),
            "transfer parameters"
        );
        assert_eq!(TransferParameters::parse(&bytes), Ok(parameters));
        for length in 0..bytes.len() {
            assert!(TransferParameters::parse(&bytes[..length]).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = TransferParameters::parse(&bytes);
        }
    }
}

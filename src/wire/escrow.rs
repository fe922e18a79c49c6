//! What a host says of the backup that it wants to give into its manager's keeping
//! (docs/PROTOCOL.md, section "Escrow").

use std::fmt;

use super::broadcast::TransferParameters;
use super::codec::{DecodeError, Reader, Writer};

/// An offer to upload the backup of the chip, from its first byte on.
///
/// | bytes | field |
/// | --- | --- |
/// | 0..46 | transfer parameters, made by the host; the payload is the backup as it was read, not compressed |
/// | 46..78 | SHA-256 of the backup |
#[derive(Clone, PartialEq, Eq)]
pub struct BackupOffer {
    /// Campaign, size, and the key that the host drew for this one upload.
    pub parameters: TransferParameters,
    /// SHA-256 of the backup.
    pub digest: [u8; 32],
}

impl fmt::Debug for BackupOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest: String = self.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        f.debug_struct("BackupOffer")
            .field("parameters", &self.parameters)
            .field("digest", &digest)
            .finish()
    }
}

impl BackupOffer {
    /// Reads the fields of an offer.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            parameters: TransferParameters::parse(reader.take(TransferParameters::SIZE)?)?,
            digest: reader.array()?,
        })
    }

    /// Writes the fields of an offer.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.parameters.emit()).bytes(&self.digest);
    }
}

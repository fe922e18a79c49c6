//! GUIDs as UEFI stores them.

use std::fmt;

/// A GUID in the byte order of UEFI: the first three fields little-endian (UEFI specification,
/// appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Returns the GUID that is written `first-second-third-xxxx-xxxxxxxxxxxx`.
    pub const fn new(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Self {
        let (a, b, c, r) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes(), rest);
        Self([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r[0], r[1], r[2], r[3], r[4], r[5],
            r[6], r[7],
        ])
    }

    /// Its first eight bytes as a little-endian number.
    pub(super) const fn head(&self) -> u64 {
        let b = &self.0;
        u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (position, &index) in ORDER.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[index])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_stored_mixed_endian_and_shown_as_the_specification_writes_it() {
        let guid = Guid::new(
            0x8c8c_e578,
            0x8a3d,
            0x4f1c,
            [0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3],
        );
        assert_eq!(guid.0[..8], [0x78, 0xe5, 0x8c, 0x8c, 0x3d, 0x8a, 0x1c, 0x4f]);
        assert_eq!(guid.to_string(), "8c8ce578-8a3d-4f1c-9935-896185c32dd3");
    }
}

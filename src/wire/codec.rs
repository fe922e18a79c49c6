//! Reading and writing fields: fixed widths, big-endian, nothing left over.

use thiserror::Error;

use super::PROTOCOL_VERSION;

/// Bytes that are not the message they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the field needs.
    #[error("message ends early: {needed} more bytes expected, {left} left")]
    Truncated {
        /// Bytes the next field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes behind the last field.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    /// A type that this version does not define.
    #[error("unknown message type {0:#04x}")]
    UnknownType(u8),
    /// A protocol version that this version does not speak.
    #[error(
        "protocol version {0}, expected {PROTOCOL_VERSION}; install the same version on both sides"
    )]
    UnknownVersion(u8),
    /// A field whose value is outside its definition.
    #[error("field {0} has a value outside its definition")]
    Value(&'static str),
}

/// Takes fields off the front of a message.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns the next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer; so do all the readers below.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated { needed: count, left: self.bytes.len() })?;
        self.bytes = rest;
        Ok(head)
    }

    /// Returns the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Returns a length byte and that much UTF-8 without control characters, at most `max_bytes`
    /// long.
    pub fn text(&mut self, field: &'static str, max_bytes: usize) -> Result<String, DecodeError> {
        let length = usize::from(self.u8()?);
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if length <= max_bytes && !text.chars().any(char::is_control) => {
                Ok(text.to_owned())
            }
            _ => Err(DecodeError::Value(field)),
        }
    }

    /// Whether nothing is left: an older sender has no more fields.
    pub fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns whether an optional part follows: a byte 0, or a byte 1 and the part.
    ///
    /// # Errors
    /// [`DecodeError`] at the end, and for any other byte.
    pub fn optional(&mut self, name: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Value(name)),
        }
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
    }
}

/// Appends fields to a message.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Returns an empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends two bytes, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a length byte and `text`, cut to `max_bytes` at a character and with control
    /// characters as spaces.
    ///
    /// Text is for people: what does not fit is left out rather than made an error.
    pub fn text(&mut self, text: &str, max_bytes: usize) -> &mut Self {
        let mut cut = String::new();
        for character in text.chars() {
            let character = if character.is_control() { ' ' } else { character };
            if cut.len() + character.len_utf8() > max_bytes.min(usize::from(u8::MAX)) {
                break;
            }
            cut.push(character);
        }
        self.u8(cut.len() as u8).bytes(cut.as_bytes())
    }

    /// How many bytes there are so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the message.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_cleaned() {
        let mut writer = Writer::new();
        let bytes = writer.text("a\nä", 3).finish();
        assert_eq!(bytes, b"\x02a ");
        assert_eq!(Reader::new(&bytes).text("t", 3).unwrap(), "a ");
        assert_eq!(Reader::new(b"\x01\n").text("t", 3), Err(DecodeError::Value("t")));
        assert_eq!(Reader::new(b"\x04abcd").text("t", 3), Err(DecodeError::Value("t")));
    }

    #[test]
    fn nothing_may_be_left_over_or_missing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u16(), Ok(0x0102));
        assert_eq!(reader.u32(), Err(DecodeError::Truncated { needed: 4, left: 1 }));
        assert_eq!(reader.finish(), Err(DecodeError::Trailing(1)));
    }
}

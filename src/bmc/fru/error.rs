//! What can be wrong with FRU information, or in the way of a change to it.

use super::AreaKind;

/// Why FRU information cannot be read or changed. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FruError {
    /// No room for even the common header.
    #[error("{size_bytes} bytes are too few for FRU information, expected at least 8")]
    TooShort {
        /// How large it is.
        size_bytes: usize,
    },
    /// Not the format of the common header: blank, or something else.
    #[error(
        "no FRU information: the format version at 0x0 is {got:#04x}, expected 0x01; the maker's \
        tool or `ipmitool fru write` makes it"
    )]
    Format {
        /// The first byte.
        got: u8,
    },
    /// The common header is damaged.
    #[error(
        "the common header is damaged: checksum {got:#04x} at 0x7, expected {expected:#04x}; \
        restore it with the maker's tool"
    )]
    HeaderChecksum {
        /// As computed.
        expected: u8,
        /// As it is there.
        got: u8,
    },
    /// An area is damaged whose end has to be known.
    #[error(
        "the {kind} area at {offset_bytes:#x} is damaged ({problem}), so it is unknown where it \
        ends; restore it with the maker's tool"
    )]
    Area {
        /// Which.
        kind: AreaKind,
        /// Where it begins.
        offset_bytes: usize,
        /// What is wrong, in words.
        problem: String,
    },
    /// A record's header has another format version.
    #[error(
        "the list of records is damaged: format version {got:#x} in the header at \
        {offset_bytes:#x}, expected 0x2; restore it with the maker's tool"
    )]
    RecordFormat {
        /// Where the header begins.
        offset_bytes: usize,
        /// Its version.
        got: u8,
    },
    /// A record's header is damaged.
    #[error(
        "the list of records is damaged: checksum {got:#04x} in the header at {offset_bytes:#x}, \
        expected {expected:#04x}; restore it with the maker's tool"
    )]
    RecordHeader {
        /// Where the header begins.
        offset_bytes: usize,
        /// As computed.
        expected: u8,
        /// As it is there.
        got: u8,
    },
    /// A record goes on where something else begins.
    #[error(
        "the list of records has no end: the record at {offset_bytes:#x} does not fit below \
        {limit_bytes:#x}; restore it with the maker's tool"
    )]
    Endless {
        /// Where the record begins.
        offset_bytes: usize,
        /// Where the next area begins, or the device ends.
        limit_bytes: usize,
    },
    /// There is no blank place that is large enough.
    #[error(
        "no room: {needed_bytes} bytes are needed, and {free_bytes} are blank behind the last \
        area; a shorter URL (an address, no key) needs less"
    )]
    NoRoom {
        /// How many bytes must be written.
        needed_bytes: usize,
        /// How many there are in the largest place.
        free_bytes: usize,
    },
    /// Longer than a record.
    #[error(
        "the URL takes {size_bytes} bytes, expected at most {}",
        crate::manager_url::URL_SIZE_MAX
    )]
    UrlTooLong {
        /// Its length.
        size_bytes: usize,
    },
}

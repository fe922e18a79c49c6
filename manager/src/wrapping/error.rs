//! Why no image can be taken from a file.

use super::cabinet_tables::CabinetError;
use super::capsule::CapsuleError;
use super::fmp::FmpError;
use super::metainfo::Metainfo;

/// Why no image was taken, and what the maker says of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// Why not.
    pub why: WrappingError,
    /// The metainfo beside the payload, where one was found.
    pub metainfo: Option<Box<Metainfo>>,
}

/// What the file is, and what to do. Nothing was taken from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrappingError {
    /// A file that is no image.
    #[error("this is {0}")]
    NoImage(&'static str),
    /// A capsule that the operator did not say to cut.
    #[error(
        "this is a capsule ({maker}, GUID {guid}): a header of 0x{header_bytes:x} bytes, which no \
         chip holds, before 0x{rest_bytes:x} bytes; give --strip-capsule to cut the header, whose \
         signature is then not checked"
    )]
    Capsule {
        /// Whose.
        maker: String,
        /// As it stands in the header.
        guid: String,
        /// Length of the header.
        header_bytes: usize,
        /// Length of what follows.
        rest_bytes: usize,
    },
    /// A capsule with wrong lengths.
    #[error(transparent)]
    BadCapsule(#[from] CapsuleError),
    /// A capsule of the firmware management protocol that cannot be walked.
    #[error("this is a capsule for the firmware management protocol, but {0}: get the file again")]
    BadFmp(#[from] FmpError),
    /// One that holds no image of a chip, or several.
    #[error(
        "this is a capsule for the firmware management protocol with {contents}, none of which \
         alone is the image of a chip: the board's own firmware installs it (fwupdtool \
         install-blob); give a raw image, or a backup of a server that runs this version"
    )]
    Fmp {
        /// What is in it.
        contents: String,
    },
    /// More than a chip's image.
    #[error(
        "the file has 0x{file_bytes:x} bytes, which no chip has, and in it is an image of \
         0x{image_bytes:x} bytes at 0x{offset_bytes:x} ({why}), with 0x{before_bytes:x} bytes \
         before it ({before}) and 0x{behind_bytes:x} behind it ({behind}): give --strip-extra to \
         take the image alone"
    )]
    Extra {
        /// Length of the file.
        file_bytes: usize,
        /// Length of the image.
        image_bytes: usize,
        /// Where it begins.
        offset_bytes: usize,
        /// What shows it.
        why: &'static str,
        /// Length of what stands before it.
        before_bytes: usize,
        /// What that is.
        before: &'static str,
        /// Length of what stands behind it.
        behind_bytes: usize,
        /// What that is.
        behind: &'static str,
    },
    /// Several images in one file.
    #[error(
        "several images are in it: {all}; cut out the one that is meant, with dd, and give that"
    )]
    SeveralImages {
        /// Where they lie.
        all: String,
    },
    /// A program without an image that can be seen.
    #[error("this is a {kind} program without an image that can be seen in it, {what}")]
    Program {
        /// Who runs it.
        kind: &'static str,
        /// Whose it is and what to do.
        what: &'static str,
    },
    /// A program with a cabinet of which no image can be taken.
    #[error("this is a {kind} program with a cabinet at 0x{offset_bytes:x}: {why}")]
    ProgramWithCabinet {
        /// Who runs it.
        kind: &'static str,
        /// Where the cabinet begins.
        offset_bytes: usize,
        /// What is wrong with it.
        why: Box<WrappingError>,
    },
    /// A damaged archive.
    #[error("this is a {kind} that cannot be read: {why}; get the file again")]
    Archive {
        /// What it is.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A cabinet with wrong tables.
    #[error("this is a cabinet, but {0}")]
    Cabinet(#[from] CabinetError),
    /// More members than any archive with firmware.
    #[error("the archive has more than {max} members: unpack it, and give the image")]
    Members {
        /// The limit.
        max: usize,
    },
    /// A member that cannot be unpacked.
    #[error("{name:?} in the archive cannot be read: {why}; get the file again")]
    Member {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A member that is larger than any image.
    #[error(
        "{name:?} in the archive says that it has {size_bytes} bytes, expected at most \
         {max_bytes}: it is no image"
    )]
    MemberSize {
        /// Its name.
        name: String,
        /// As the archive lists it.
        size_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// No member is an image.
    #[error("no image is in the archive, only {all}: if one of them is, give --member NAME")]
    NoMember {
        /// The members.
        all: String,
    },
    /// No member of this name.
    #[error("no {name:?} is in the archive, only {all}: give one of these as --member")]
    NoSuchMember {
        /// As given.
        name: String,
        /// The members.
        all: String,
    },
    /// Several members are images.
    #[error("several members of the archive may be the image: give --member with one of {all}")]
    SeveralMembers {
        /// Their names.
        all: String,
    },
    /// Too much to look at.
    #[error(
        "the archive has more than {max_bytes} bytes that would have to be looked at: give \
         --member NAME"
    )]
    TooMuch {
        /// The limit.
        max_bytes: u64,
    },
    /// A member was named, but there is no archive.
    #[error("this is no archive, so there is no member {0:?} in it: leave out --member")]
    NotAnArchive(String),
    /// Archives in archives.
    #[error(
        "there are archives in archives, more than {max} deep: unpack them, and give the image"
    )]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// Not what the metainfo says.
    #[error(
        "the payload's {name} is {got}, the metainfo says {expected}: the cabinet was changed or \
         made wrongly, get it again"
    )]
    Digest {
        /// Which digest.
        name: &'static str,
        /// Over the payload.
        got: String,
        /// From the metainfo.
        expected: String,
    },
}

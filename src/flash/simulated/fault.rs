//! What can go wrong with one operation on a chip.

use super::super::WriteRule;

/// What was asked of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// [`Flash::read`](crate::flash::Flash::read)
    Read,
    /// [`Flash::erase`](crate::flash::Flash::erase)
    Erase,
    /// [`Flash::write`](crate::flash::Flash::write)
    Write,
    /// [`Flash::is_locked`](crate::flash::Flash::is_locked)
    IsLocked,
    /// [`Flash::unlock`](crate::flash::Flash::unlock)
    Unlock,
    /// [`Flash::protect`](crate::flash::Flash::protect)
    Protect,
    /// [`Flash::is_bad`](crate::flash::Flash::is_bad)
    IsBad,
}

/// A write by somebody else who has access to the chip: a management engine, a BMC, firmware in
/// system management mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignWrite {
    /// The byte that changes.
    pub offset_bytes: u64,
    /// The bits of it that change.
    pub mask: u8,
}

/// What goes wrong with one operation.
///
/// | fault | done on the chip | reported | afterwards |
/// | --- | --- | --- | --- |
/// | `Error` | nothing | `EIO` | |
/// | `HalfDone` | in part | `EIO` | |
/// | `CutBefore` | nothing | `EIO` | no power |
/// | `CutInside` | first half, the rest a little | `EIO` | no power |
/// | `CutTorn` | some bits everywhere | `EIO` | no power |
/// | `CutAfter` | all | success | no power |
/// | `WrongByte` | all, but one byte is wrong | success | |
/// | `NotDone` | nothing | success | |
/// | `ShortRead` | | success, the buffer's second half is as it was | |
/// | `ShortReads` | | the same | so does every later read |
/// | `Corrected` | | success: ECC corrected a bit | |
/// | `Decay` | a page no longer matches its ECC | `EBADMSG` | until the block is erased |
/// | `WearOut` | in part | `EIO` | the block fails every erase and write |
/// | `StuckBits` | all, but a bit of each of two bytes stays 0 | success | for good |
/// | `Lock` | nothing | `EROFS` | the block is locked for good |
///
/// A wrong byte of a read is wrong in the buffer only; a wrong byte of a question is the opposite
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table above says it shorter")]
pub enum Fault {
    Error,
    HalfDone,
    CutBefore,
    CutInside,
    CutTorn,
    CutAfter,
    WrongByte,
    NotDone,
    ShortRead,
    ShortReads,
    Corrected,
    Decay,
    WearOut,
    StuckBits,
    Lock,
}

impl Fault {
    /// Every way to lose power.
    pub const CUTS: [Fault; 4] =
        [Fault::CutBefore, Fault::CutInside, Fault::CutTorn, Fault::CutAfter];

    /// Everything else that goes wrong.
    pub const OTHERS: [Fault; 11] = [
        Fault::Error,
        Fault::HalfDone,
        Fault::WrongByte,
        Fault::NotDone,
        Fault::ShortRead,
        Fault::ShortReads,
        Fault::Corrected,
        Fault::Decay,
        Fault::WearOut,
        Fault::StuckBits,
        Fault::Lock,
    ];

    /// Returns whether this operation of a chip with this rule can go wrong in this way; a fault
    /// that does not apply has no effect.
    pub fn applies_to(self, asked: Asked, rule: WriteRule) -> bool {
        let changes = matches!(asked, Asked::Erase | Asked::Write);
        match self {
            Fault::Error | Fault::CutBefore | Fault::CutInside | Fault::CutAfter => true,
            Fault::HalfDone => changes || asked == Asked::Read,
            Fault::CutTorn | Fault::WearOut => changes,
            Fault::StuckBits => changes && rule != WriteRule::Overwrite,
            // Nobody can tell a NAND block that is wrongly called bad, or good, from one that is.
            Fault::WrongByte if asked == Asked::IsBad => rule != WriteRule::PageOnce,
            Fault::WrongByte => !matches!(asked, Asked::Unlock | Asked::Protect),
            Fault::NotDone => {
                changes || matches!(asked, Asked::Read | Asked::Unlock | Asked::Protect)
            }
            Fault::ShortRead | Fault::ShortReads => asked == Asked::Read,
            Fault::Corrected | Fault::Decay => asked == Asked::Read && rule == WriteRule::PageOnce,
            Fault::Lock => changes || asked == Asked::IsLocked,
        }
    }

    /// Returns whether the chip loses power.
    pub fn is_cut(self) -> bool {
        Self::CUTS.contains(&self)
    }
}

//! What areas are for.

use std::fmt;

/// What an area is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// The maker's own (section 9). It does not say how long it is.
    InternalUse,
    /// Chassis Info (section 10).
    Chassis,
    /// Board Info (section 11).
    Board,
    /// Product Info (section 12).
    Product,
    /// A list of records (section 16).
    MultiRecord,
}

impl fmt::Display for AreaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InternalUse => "internal use",
            Self::Chassis => "chassis",
            Self::Board => "board",
            Self::Product => "product",
            Self::MultiRecord => "MultiRecord",
        })
    }
}

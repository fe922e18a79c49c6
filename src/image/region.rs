//! Regions of a chip, and what an update does with them.

/// What an update does with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegionAction {
    /// What the chip holds there stays.
    Preserve,
    /// It is erased and left so: the firmware makes it anew when it starts.
    Reset,
    /// It gets the image's contents like everything else, but the firmware changes it when it runs.
    Replace,
    /// What the chip holds there stays, and the firmware writes it whenever it runs: it is not
    /// compared, recorded or judged.
    Volatile,
}

impl RegionAction {
    /// Every action, in the order of the manifest's labels.
    pub const ALL: [Self; 4] = [Self::Preserve, Self::Reset, Self::Replace, Self::Volatile];

    /// Returns the word on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preserve => "preserve",
            Self::Reset => "reset",
            Self::Replace => "replace",
            Self::Volatile => "volatile",
        }
    }

    /// Returns whether the update leaves there what the chip holds.
    pub fn keeps_chip(self) -> bool {
        matches!(self, Self::Preserve | Self::Volatile)
    }
}

/// A range of the flash chip that the bundle's policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Name from the bundle, for people.
    pub name: String,
    /// First byte, from the start of the chip.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
    /// What the update does with it.
    pub action: RegionAction,
}

impl Region {
    /// Its bytes.
    pub fn range64(&self) -> std::ops::Range<u64> {
        self.offset_bytes..self.offset_bytes.saturating_add(self.length_bytes)
    }

    /// Its bytes in an image that it lies in.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset_bytes as usize..(self.offset_bytes + self.length_bytes) as usize
    }
}

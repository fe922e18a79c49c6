//! Whether one machine has a key, or several: by the boots that its owner names.

use std::collections::VecDeque;

/// Maximum number of boots that are remembered.
const BOOTS_MAX: usize = 16;

/// Minimum number of times that a boot is there again before that is believed. One old answer that
/// the network held back makes it two.
const RETURNS_MIN: u32 = 3;

/// The boots that the owner of one key named, the present one last.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    seen: VecDeque<[u8; 16]>,
    /// How often a boot that another one had followed was there again.
    returns: u32,
}

impl Boots {
    /// Takes the boot that is named now. True when this shows that several machines have the key:
    /// boots that others have followed are there again and again. That is said once.
    pub(crate) fn take(&mut self, boot_id: [u8; 16]) -> bool {
        // Zeros are no boot: it could not be read.
        if boot_id == [0; 16] || self.seen.back() == Some(&boot_id) {
            return false;
        }
        let is_back = self.seen.contains(&boot_id);
        self.seen.retain(|seen| *seen != boot_id);
        if self.seen.len() >= BOOTS_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(boot_id);
        self.returns = self.returns.saturating_add(u32::from(is_back));
        is_back && self.returns == RETURNS_MIN
    }

    /// Whether several machines have the key.
    pub(crate) fn are_of_many(&self) -> bool {
        self.returns >= RETURNS_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_that_comes_back_is_another_machine_and_a_reboot_is_not() {
        let mut one = Boots::default();
        assert!((1..100).all(|boot| !one.take([boot; 16]) && !one.take([boot; 16])));
        assert!(!one.take([0; 16]) && !one.are_of_many());
        let mut many = Boots::default();
        let told: Vec<bool> = [1, 2, 1, 2, 1, 2].map(|boot| many.take([boot; 16])).into();
        assert_eq!(told, [false, false, false, false, true, false]);
        assert!(many.are_of_many());
        // An answer of the boot before came late.
        let mut late = Boots::default();
        assert!([1, 2, 1, 2, 2, 3].iter().all(|boot| !late.take([*boot; 16])));
        assert!(!late.are_of_many());
    }
}

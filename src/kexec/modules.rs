//! Which modules a recovery initramfs has: the list that firmcast-mkrecovery puts before it, in an
//! archive of its own.
//!
//! ```text
//! e1000e: ptp          a module that some device asks for, and the modules that it needs
//! +my_flash: mtd       a module that recovery loads by its name
//! ~cfi_probe: chipreg  a module that no device asks for
//! usbcore              part of the kernel
//! -ubi                 left out on purpose
//! !tg3                 another module of that kernel
//! ```
//!
//! docs/BOOT.md describes the archive.

/// Longest list that is read, in bytes; one of a distribution's kernel has about 10,000.
pub(super) const MODULE_LIST_SIZE_MAX: u64 = 256 * 1024;

/// The modules of a recovery initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleList {
    text: String,
}

/// What a list says of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed<'a> {
    /// In the initramfs.
    Here {
        /// Recovery loads it: by its name, or because a device asks for it.
        is_loaded: bool,
        /// Names of all modules that it needs, separated by spaces.
        needs: &'a str,
    },
    /// Part of the kernel.
    BuiltIn,
    /// Not there, on purpose.
    LeftOut,
    /// A module of that kernel that is not there.
    Lacking,
}

impl ModuleList {
    /// The list with this text.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// What the list says of module `name`, written with "_"; nothing when neither the initramfs
    /// nor its kernel has it.
    pub fn find(&self, name: &str) -> Option<Listed<'_>> {
        self.text.lines().find_map(|line| {
            let (marked, needs) = match line.split_once(':') {
                Some((marked, needs)) => (marked, Some(needs.trim())),
                None => (line.trim(), None),
            };
            match (marked.strip_prefix(['+', '~', '-', '!']).unwrap_or(marked) == name, needs) {
                (false, _) => None,
                (true, Some(needs)) => {
                    Some(Listed::Here { is_loaded: !marked.starts_with('~'), needs })
                }
                (true, None) if marked.starts_with('-') => Some(Listed::LeftOut),
                (true, None) if marked.starts_with('!') => Some(Listed::Lacking),
                (true, None) => Some(Listed::BuiltIn),
            }
        })
    }

    /// Whether recovery loads module `name` by its name, whatever devices ask for.
    pub fn is_loaded_by_name(&self, name: &str) -> bool {
        let mut by_name = self.text.lines().filter_map(|line| line.strip_prefix('+'));
        by_name.any(|line| line.split(':').next() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_told_apart() {
        let text = "+my_flash: map_funcs mtd\n-ubi\n!tg3\ne1000:\n~gen_probe:\nusbcore\n";
        let list = ModuleList::new(text.into());
        let here = |is_loaded, needs| Some(Listed::Here { is_loaded, needs });
        assert_eq!(list.find("my_flash"), here(true, "map_funcs mtd"));
        assert_eq!(list.find("e1000"), here(true, ""));
        assert_eq!(list.find("gen_probe"), here(false, ""));
        assert_eq!(list.find("usbcore"), Some(Listed::BuiltIn));
        assert_eq!(list.find("ubi"), Some(Listed::LeftOut));
        assert_eq!(list.find("tg3"), Some(Listed::Lacking));
        assert_eq!(list.find("e1000e"), None);
        assert_eq!(list.find(""), None);
        assert!(list.is_loaded_by_name("my_flash") && !list.is_loaded_by_name("e1000"));
    }
}

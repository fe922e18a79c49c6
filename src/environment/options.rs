//! What the kernel's command line says about a rescue (docs/BOOT.md).
//!
//! | word | meaning |
//! | --- | --- |
//! | `firmcast.recover=auto` | ask for help only when the firmware is invalid |
//! | `firmcast.recover=force` | ask for help in any case |
//! | `firmcast.manager=URL` | a manager, before those of the provision; may be repeated |
//! | `firmcast.flash=NAME` | the MTD device with the firmware, instead of the provision's |
//! | `firmcast.unknown=boot-on`, `=rescue` | what to do when nothing tells whether it is whole |
//! | `ip=`, `vlan=` | the network, instead of the provision's ([`crate::net::ip_option`]) |
//! | `firmcast.then=reboot`, `=poweroff` | what the dedicated recovery image does at its end |

use log::warn;

use crate::handover::{MANAGERS_MAX, OnUnknown, Provision};
use crate::manager_url::ManagerUrl;

/// Longest command line that is looked at; the kernel's own are shorter.
const CMDLINE_SIZE_MAX: u64 = 64 * 1024;

/// When help is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum When {
    /// When the firmware is invalid.
    #[default]
    Auto,
    /// Always.
    Force,
}

/// What the dedicated recovery image does at its end. The distribution's initramfs always boots on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Then {
    /// Reboot through the firmware.
    #[default]
    Reboot,
    /// Switch the machine off.
    PowerOff,
}

/// The words of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// When help is asked for; none: the word is not there.
    pub recover: Option<When>,
    /// Managers.
    pub managers: Vec<String>,
    /// The MTD device.
    pub flash: Option<String>,
    /// What to do when nothing tells whether the firmware is whole.
    pub on_unknown: Option<OnUnknown>,
    /// What to do at the end.
    pub then: Then,
}

impl Options {
    /// Reads the running kernel's command line.
    pub fn of_this_boot() -> Self {
        use std::io::Read as _;
        let mut text = String::new();
        let read = std::fs::File::open("/proc/cmdline")
            .and_then(|file| file.take(CMDLINE_SIZE_MAX).read_to_string(&mut text));
        if let Err(error) = read {
            warn!("cannot read the kernel's command line: {error}");
        }
        Self::parse(&text)
    }

    /// Reads a command line. What is not understood is told and left out: there is nobody to
    /// correct it in time.
    pub fn parse(text: &str) -> Self {
        let mut options = Self::default();
        for word in text.split_ascii_whitespace() {
            let Some((key, value)) = word.strip_prefix("firmcast.").and_then(|w| w.split_once('='))
            else {
                continue;
            };
            let understood = match (key, value) {
                ("recover", "auto") => options.recover.replace(When::Auto).is_none(),
                ("recover", "force") => options.recover.replace(When::Force).is_none(),
                ("manager", url) if options.managers.len() < MANAGERS_MAX => {
                    options.managers.push(url.to_owned());
                    url.parse::<ManagerUrl>().is_ok()
                }
                ("flash", name) => options.flash.replace(name.to_owned()).is_none(),
                ("unknown", "boot-on") => options.on_unknown.replace(OnUnknown::BootOn).is_none(),
                ("unknown", "rescue") => options.on_unknown.replace(OnUnknown::Rescue).is_none(),
                ("then", "reboot") => {
                    options.then = Then::Reboot;
                    true
                }
                ("then", "poweroff") => {
                    options.then = Then::PowerOff;
                    true
                }
                _ => false,
            };
            if !understood {
                warn!("on the kernel's command line: {word:?} is not understood, see docs/BOOT.md");
            }
        }
        options
    }

    /// Puts these words over the provision.
    pub fn apply(&self, provision: &mut Provision) {
        if let Some(flash) = &self.flash {
            provision.flash.clone_from(flash);
        }
        if let Some(on_unknown) = self.on_unknown {
            provision.on_unknown = on_unknown;
        }
        let stored = std::mem::take(&mut provision.managers);
        provision.managers = self.managers.iter().cloned().chain(stored).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_over_the_provision_and_nonsense_changes_nothing() {
        let text = "quiet firmcast.recover=force firmcast.manager=firmcast://10.0.0.1 ro \
                    firmcast.flash=bank firmcast.unknown=rescue firmcast.then=poweroff \
                    firmcast.x=1 firmcast.recover";
        let options = Options::parse(text);
        assert_eq!((options.recover, options.then), (Some(When::Force), Then::PowerOff));
        let mut provision = crate::handover::provision_example();
        options.apply(&mut provision);
        assert_eq!(provision.managers, ["firmcast://10.0.0.1", "firmcast://192.0.2.1"]);
        assert_eq!((provision.flash.as_str(), provision.on_unknown), ("bank", OnUnknown::Rescue));
        assert_eq!(
            Options::parse("firmcast.recover=maybe firmcast. firmcast.=x"),
            Options::default()
        );
    }
}

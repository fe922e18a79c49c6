//! What a host does that nobody sent into its recovery environment. Pure.

use std::time::Duration;

use super::options::When;
use crate::handover::OnUnknown;
use crate::reason::Condition;
use crate::wire::help::Finding;

/// How long a host that only wants to tell something tries to.
const NOTICE_PATIENCE: Duration = Duration::from_secs(30);

/// How long the distribution's initramfs looks for help when nothing proves that the
/// firmware is damaged: the machine has just started with it. Its structure may only deviate, and
/// the record of good firmware may be older than the firmware.
const DOUBT_PATIENCE: Duration = Duration::from_secs(120);

/// How the environment was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As a recovery image.
    Dedicated(When),
    /// By the distribution's initramfs, on the way to its operating system.
    Hook(When),
}

/// What is done about the firmware that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// Nothing.
    BootOn,
    /// A manager is told, and the boot goes on.
    Tell,
    /// A manager is asked for an image, for ever or for so long.
    AskForImage(Option<Duration>),
}

impl Intent {
    /// Returns what to do about `finding`; `is_doubtful` when nothing in the firmware's own
    /// structure proves damage.
    pub(super) fn new(
        way: Way,
        finding: Finding,
        is_doubtful: bool,
        on_unknown: OnUnknown,
    ) -> Self {
        let (Way::Dedicated(when) | Way::Hook(when)) = way;
        match (finding, when) {
            (Finding::Valid, When::Auto) => return Self::BootOn,
            (Finding::Unknown, When::Auto) if on_unknown == OnUnknown::BootOn => return Self::Tell,
            _ => {}
        }
        match way {
            Way::Hook(When::Auto) if is_doubtful => Self::AskForImage(Some(DOUBT_PATIENCE)),
            _ => Self::AskForImage(None),
        }
    }

    /// Returns how long the network and a manager are looked for; none: for ever.
    pub(super) fn patience(self) -> Option<Duration> {
        match self {
            Self::BootOn => Some(Duration::ZERO),
            Self::Tell => Some(NOTICE_PATIENCE),
            Self::AskForImage(patience) => patience,
        }
    }

    pub(super) fn wants_image(self) -> bool {
        matches!(self, Self::AskForImage(_))
    }

    /// Returns what the contents of the chip are taken for. Where an image is wanted, contents that
    /// nobody understands are taken for broken: until they are replaced no reboot is safe.
    pub(super) fn condition(self, finding: Finding, is_doubtful: bool) -> Condition {
        match finding {
            Finding::Valid => Condition::Whole,
            Finding::Unknown if !self.wants_image() => Condition::Whole,
            Finding::Invalid | Finding::Unknown if is_doubtful => Condition::Doubtful,
            Finding::Invalid | Finding::Unknown => Condition::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_and_the_way_decide_and_a_running_system_is_not_kept() {
        use Finding::{Invalid, Unknown, Valid};
        use When::{Auto, Force};
        let (dedicated, hook) = (Way::Dedicated, Way::Hook);
        let (on, ask, doubt) = (OnUnknown::BootOn, Intent::AskForImage(None), Some(DOUBT_PATIENCE));
        for (way, finding, is_doubtful, on_unknown, expected) in [
            (dedicated(Auto), Valid, false, on, Intent::BootOn),
            (hook(Auto), Valid, false, on, Intent::BootOn),
            (dedicated(Force), Valid, false, on, ask),
            (hook(Force), Valid, false, on, ask),
            (dedicated(Auto), Unknown, false, on, Intent::Tell),
            (dedicated(Force), Unknown, false, on, ask),
            (hook(Auto), Unknown, false, OnUnknown::Rescue, ask),
            (dedicated(Auto), Invalid, false, on, ask),
            (dedicated(Auto), Invalid, true, on, ask),
            (hook(Auto), Invalid, false, on, ask),
            (hook(Auto), Invalid, true, on, Intent::AskForImage(doubt)),
            (hook(Force), Invalid, true, on, ask),
        ] {
            let intent = Intent::new(way, finding, is_doubtful, on_unknown);
            assert_eq!(intent, expected, "{way:?} {finding:?} {is_doubtful}");
        }
        assert_eq!(Intent::Tell.patience(), Some(NOTICE_PATIENCE));
        assert_eq!(ask.patience(), None);
        assert_eq!(ask.condition(Unknown, false), Condition::Broken);
        assert_eq!(Intent::Tell.condition(Unknown, false), Condition::Whole);
        assert_eq!(ask.condition(Invalid, true), Condition::Doubtful);
        assert_eq!(ask.condition(Valid, false), Condition::Whole);
    }
}

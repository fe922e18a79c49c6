//! What a stay came to: word of it for the agent in the normal OS, and how the boot goes on.

use std::time::Duration;

use log::{info, warn};

use super::stay::Conclusion;
use crate::handover::MailboxPlace;
use crate::image::KnownGood;
use crate::mailbox::{self, MailboxError, Rescues, Word};
use crate::platform::Platform;
use crate::reason::with_causes;
use crate::wire::answer::End;

/// How long the disk with the mailbox may take to appear.
const DISK_PATIENCE: Duration = Duration::from_secs(15);

/// How the boot goes on after a stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// As if nothing had been.
    On,
    /// Through the firmware, which the stay has changed, or as the agent's errand ends.
    Anew,
}

/// Leaves word for the agent at `place`. Returns how the boot goes on.
pub(super) fn conclude(
    platform: &mut Platform,
    place: Option<&MailboxPlace>,
    conclusion: &Conclusion,
) -> Boot {
    match conclusion {
        Conclusion::Returned(end) => {
            leave_word(platform, place, &Word::of(end.campaign, &end.ending), None);
            Boot::Anew
        }
        Conclusion::Repaired { end, changed, known_good } => {
            info!("the firmware is repaired: {}", end.ending.reason);
            tell_of_repair(platform, place, end, known_good.as_deref());
            if *changed { Boot::Anew } else { Boot::On }
        }
        Conclusion::Unchanged(_) => Boot::On,
    }
}

/// With this word the agent renews its record of good firmware when the normal OS is up again.
fn tell_of_repair(
    platform: &mut Platform,
    place: Option<&MailboxPlace>,
    end: &End,
    known_good: Option<&KnownGood>,
) {
    let text = known_good.and_then(|good| serde_json::to_string(good).ok()).unwrap_or_default();
    let fits = text.len() <= mailbox::TEXT_LENGTH_MAX;
    if !fits {
        warn!(
            "the record of the new firmware is too long for the mailbox: run firmcastd \
            rescue-archive --renew"
        );
    }
    let text = if fits { text } else { String::new() };
    let word = Word { text, ..Word::of(end.campaign, &end.ending) };
    leave_word(platform, place, &word, Some(mailbox::clock_s()));
}

fn leave_word(
    platform: &mut Platform,
    place: Option<&MailboxPlace>,
    word: &Word,
    rescued_at_s: Option<u64>,
) {
    let Some(place) = place else { return };
    match at_mailbox(platform, || mailbox::deliver(place, word, rescued_at_s)) {
        Ok(()) => info!("left word for the normal OS"),
        Err(error) => warn!("cannot leave word for the normal OS: {}", with_causes(&error)),
    }
}

/// The record of good firmware that the last repair has left word of at `place`, and that the agent
/// has not taken over yet: the provision of an initramfs is as old as the initramfs.
pub(super) fn record_of_last_repair(
    platform: &mut Platform,
    place: &MailboxPlace,
) -> Option<KnownGood> {
    let word = at_mailbox(platform, || mailbox::look(place)).ok()??;
    serde_json::from_slice(word.text.as_bytes()).ok()
}

/// The rescues that stand at `place`; none where they cannot be read.
pub(super) fn rescues(platform: &mut Platform, place: &MailboxPlace) -> Option<Rescues> {
    let found = at_mailbox(platform, || mailbox::rescues(place));
    found.inspect_err(|error| warn!("not known how often this host was rescued: {error}")).ok()
}

/// Looks for the mailbox until its disk has appeared.
fn at_mailbox<T>(
    platform: &mut Platform,
    mut open: impl FnMut() -> Result<T, MailboxError>,
) -> Result<T, MailboxError> {
    let mut result = None;
    let looked = platform.find_disks().and_then(|()| {
        platform.wait_for(DISK_PATIENCE, || {
            !matches!(result.insert(open()), Err(MailboxError::NotFound { .. }))
        })
    });
    if let Err(error) = looked {
        warn!("cannot wait for disks: {}", with_causes(&error));
    }
    result.unwrap_or_else(open)
}

//! What a stay came to: word of it for the agent in the normal OS, and how the boot goes on.

use log::{info, warn};

use super::stay::Conclusion;
use crate::handover::MailboxPlace;
use crate::image::KnownGood;
use crate::mailbox::{self, Word};
use crate::reason::with_causes;
use crate::wire::answer::End;

/// How the boot goes on after a stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// As if nothing had been.
    On,
    /// Through the firmware, which the stay has changed, or as the agent's errand ends.
    Anew,
}

/// Leaves word for the agent at `place`. Returns how the boot goes on.
pub(super) fn conclude(place: Option<&MailboxPlace>, conclusion: &Conclusion) -> Boot {
    match conclusion {
        Conclusion::Returned(end) => {
            leave_word(place, &Word::of(end.campaign, &end.ending));
            Boot::Anew
        }
        Conclusion::Repaired { end, changed, known_good } => {
            info!("the firmware is repaired: {}", end.ending.reason);
            tell_of_repair(place, end, known_good.as_ref());
            if *changed { Boot::Anew } else { Boot::On }
        }
        Conclusion::Unchanged(_) => Boot::On,
    }
}

/// With this word the agent renews its record of good firmware when the normal OS is up again.
fn tell_of_repair(place: Option<&MailboxPlace>, end: &End, known_good: Option<&KnownGood>) {
    let text = known_good.and_then(|good| serde_json::to_string(good).ok()).unwrap_or_default();
    if text.len() > mailbox::TEXT_LENGTH_MAX {
        warn!(
            "the record of the new firmware is too long for the mailbox: run firmcastd \
            rescue-archive --renew"
        );
        return;
    }
    leave_word(place, &Word { text, ..Word::of(end.campaign, &end.ending) });
}

fn leave_word(place: Option<&MailboxPlace>, word: &Word) {
    let Some(place) = place else { return };
    match mailbox::deliver(place, word) {
        Ok(()) => info!("left word for the normal OS"),
        Err(error) => warn!("cannot leave word for the normal OS: {}", with_causes(&error)),
    }
}

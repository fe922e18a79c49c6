//! placeholder
use crate::kexec::{KexecError, MailboxPlace};
use crate::wire::answer::End;
/// Posts.
pub fn post(_place: &MailboxPlace, _end: &End) -> Result<(), KexecError> {
    Ok(())
}

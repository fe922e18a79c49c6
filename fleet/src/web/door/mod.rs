//! Who may act. Looking needs no name; a browser shows a session, a program a token, and a proxy in
//! front may say who it is.
//!
//! | file | what it does |
//! | --- | --- |
//! | `keys.rs` | what a request shows of who made it |
//! | `login.rs` | passwords, and the sessions that begin and end with them |

mod keys;
mod login;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::HeaderName;
use firmcast::keys::ManagerPublicKey;
use firmcast::time::Time;
use rand_core::{OsRng, RngCore as _};
use tokio::sync::Semaphore;

use crate::people::{Register, Secret, Sessions, Throttle};

pub(super) use keys::Shown;
pub(super) use login::Refused;

/// Maximum number of passwords that are compared at a time; each takes 19 MiB.
const COMPARED_MAX: usize = 2;

/// What is in front of the page.
#[derive(Clone, Debug)]
pub struct Front {
    /// Where the proxy calls from.
    pub proxies: Vec<IpAddr>,
    /// The header in which it says who somebody is.
    pub user_header: Option<HeaderName>,
}

/// By what sessions and waits go.
#[derive(Debug)]
enum Clock {
    Since(Instant),
    #[cfg(test)]
    Stopped,
}

/// Where it is decided who may act.
#[derive(Debug)]
pub struct Door {
    register: Register,
    sessions: Mutex<Sessions>,
    throttle: Mutex<Throttle>,
    comparing: Semaphore,
    /// What the tokens of forms are made from.
    process: Secret,
    clock: Clock,
    front: Option<Front>,
    pub(super) approvers: Vec<ManagerPublicKey>,
}

impl Door {
    /// Returns the door of the people in a state directory. The API takes approvals that one of the
    /// `approvers` has signed.
    pub fn new(state: &Path, front: Option<Front>, approvers: Vec<ManagerPublicKey>) -> Self {
        Self {
            register: Register::in_state(state),
            sessions: Mutex::default(),
            throttle: Mutex::default(),
            comparing: Semaphore::new(COMPARED_MAX),
            process: secret(),
            clock: Clock::Since(Instant::now()),
            front,
            approvers,
        }
    }

    fn now(&self) -> Time {
        match self.clock {
            Clock::Since(begun) => {
                let micros = begun.elapsed().as_micros();
                Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
            }
            #[cfg(test)]
            Clock::Stopped => Time::from_micros(0),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Door {
    /// Lets no time pass, however slow the machine is.
    pub(super) fn stopped(self) -> Self {
        Self { clock: Clock::Stopped, ..self }
    }
}

fn secret() -> Secret {
    let mut secret = Secret::default();
    OsRng.fill_bytes(&mut secret);
    secret
}

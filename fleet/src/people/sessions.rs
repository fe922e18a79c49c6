use std::collections::HashMap;
use std::time::Duration;

use firmcast::time::Time;

use super::caller::{Caller, May, Way};
use super::roster::{Person, Roster};
use super::{Digest, Secret, digest, hex};

/// How long a session may be unused.
pub const IDLE: Duration = Duration::from_secs(60 * 60);
/// How long a session may last.
pub const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Maximum number of sessions; the one that was unused longest makes room.
pub const SESSIONS_MAX: usize = 1000;
/// Maximum number of sessions of one person.
pub const SESSIONS_OF_ONE_MAX: usize = 10;

/// Who is logged in. A session is known by the digest of its secret: who reads the memory cannot
/// use it.
#[derive(Debug, Default)]
pub struct Sessions {
    by_digest: HashMap<Digest, Session>,
}

#[derive(Debug)]
struct Session {
    name: String,
    /// Digest of the password as it is kept: with another one the session is over.
    password: Digest,
    begun_at: Time,
    used_at: Time,
}

impl Session {
    fn is_over(&self, now: Time) -> bool {
        now.since(self.begun_at) >= LIFE || now.since(self.used_at) >= IDLE
    }
}

impl Sessions {
    /// Begins a session of a person. `secret` is random, so nobody can know the session before.
    pub fn begin(&mut self, person: &Person, secret: &Secret, now: Time) {
        self.by_digest.retain(|_, session| !session.is_over(now));
        while self.count(|session| session.name == person.name) >= SESSIONS_OF_ONE_MAX {
            self.drop_oldest(|session| session.name == person.name);
        }
        while self.by_digest.len() >= SESSIONS_MAX {
            self.drop_oldest(|_| true);
        }
        let (name, password) = (person.name.clone(), digest(person.password.as_bytes()));
        let session = Session { name, password, begun_at: now, used_at: now };
        self.by_digest.insert(digest(secret), session);
    }

    /// Whose session it is. That is a use of it.
    pub fn caller(&mut self, secret: &Secret, roster: &Roster, now: Time) -> Option<Caller> {
        let key = digest(secret);
        let session = self.by_digest.get_mut(&key)?;
        let person = roster.person(&session.name);
        let same = person.is_some_and(|one| digest(one.password.as_bytes()) == session.password);
        if session.is_over(now) || !same {
            self.by_digest.remove(&key);
            return None;
        }
        session.used_at = now;
        Some(Caller { name: session.name.clone(), may: May::Act, way: Way::Session })
    }

    /// Ends a session.
    pub fn end(&mut self, secret: &Secret) {
        self.by_digest.remove(&digest(secret));
    }

    fn count(&self, which: impl Fn(&Session) -> bool) -> usize {
        self.by_digest.values().filter(|session| which(session)).count()
    }

    fn drop_oldest(&mut self, which: impl Fn(&Session) -> bool) {
        let sessions = self.by_digest.iter().filter(|(_, session)| which(session));
        let oldest = sessions.min_by_key(|(_, session)| session.used_at).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.by_digest.remove(&oldest);
        }
    }
}

/// Returns what each form of the page must carry: another site does not know it. It is made from
/// what shows who the person is (`holder`), and from a secret of this process, so it counts for
/// that person's session alone, and says nothing of it.
pub fn form_token(process: &Secret, holder: &str) -> String {
    // Both parts have a fixed length, so nothing can be appended.
    let mut parts = [0; 64];
    parts[..32].copy_from_slice(process);
    parts[32..].copy_from_slice(&digest(holder.as_bytes()));
    hex(&digest(&parts))
}

#[cfg(test)]
mod tests {
    use super::super::password::Password;
    use super::*;

    fn roster(names: &[&str]) -> Roster {
        let mut roster = Roster::default();
        let password = Password::new("correct horse", [1; 16]).expect("long enough");
        for name in names {
            roster.add(name, password.clone()).expect("added");
        }
        roster
    }

    fn begin(sessions: &mut Sessions, roster: &Roster, name: &str, secret: Secret, at: Time) {
        sessions.begin(roster.person(name).expect("there"), &secret, at);
    }

    #[test]
    fn a_session_ends_unused_after_its_life_at_the_logout_and_with_the_password() {
        let mut roster = roster(&["anna"]);
        let mut sessions = Sessions::default();
        let (secret, second) = ([1; 32], Duration::from_secs(1));
        begin(&mut sessions, &roster, "anna", secret, Time::ZERO);
        assert_eq!(sessions.caller(&[2; 32], &roster, Time::ZERO), None, "somebody else's guess");
        let mut now = Time::ZERO;
        while now.since(Time::ZERO) + IDLE < LIFE {
            now += IDLE.saturating_sub(second);
            let caller = sessions.caller(&secret, &roster, now).expect("in use");
            assert_eq!((caller.name.as_str(), caller.way), ("anna", Way::Session));
        }
        assert_eq!(sessions.caller(&secret, &roster, Time::ZERO + LIFE), None, "its life is over");

        begin(&mut sessions, &roster, "anna", secret, Time::ZERO);
        assert_eq!(sessions.caller(&secret, &roster, Time::ZERO + IDLE), None, "unused");
        begin(&mut sessions, &roster, "anna", secret, Time::ZERO);
        sessions.end(&secret);
        assert_eq!(sessions.caller(&secret, &roster, Time::ZERO), None, "logged out");
        begin(&mut sessions, &roster, "anna", secret, Time::ZERO);
        let other = Password::new("another horse", [1; 16]).expect("long enough");
        roster.set_password("anna", other).expect("there");
        assert_eq!(sessions.caller(&secret, &roster, Time::ZERO), None, "another password");
        begin(&mut sessions, &roster, "anna", secret, Time::ZERO);
        assert_eq!(sessions.caller(&secret, &Roster::default(), Time::ZERO), None, "removed");
    }

    #[test]
    fn sessions_are_bounded_and_those_of_one_person_displace_nobody_else() {
        let roster = roster(&["anna", "ben"]);
        let mut sessions = Sessions::default();
        begin(&mut sessions, &roster, "ben", [255; 32], Time::ZERO);
        for number in 0..100_u8 {
            let now = Time::from_micros(u64::from(number) + 1);
            begin(&mut sessions, &roster, "anna", [number; 32], now);
        }
        assert_eq!(sessions.by_digest.len(), SESSIONS_OF_ONE_MAX + 1);
        let now = Time::from_micros(200);
        assert!(sessions.caller(&[255; 32], &roster, now).is_some());
        assert!(sessions.caller(&[99; 32], &roster, now).is_some(), "the newest");
        assert!(sessions.caller(&[0; 32], &roster, now).is_none(), "the oldest");
    }

    #[test]
    fn a_form_s_token_is_of_one_session_of_one_process() {
        let token = form_token(&[1; 32], "session a");
        assert_eq!(token, form_token(&[1; 32], "session a"));
        assert_ne!(token, form_token(&[1; 32], "session b"));
        assert_ne!(token, form_token(&[2; 32], "session a"));
    }
}

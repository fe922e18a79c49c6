use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::again::Again;
use super::{DeedError, named};
use crate::model::{RolloutState, Stamp};
use crate::rollout::file::RolloutFile;
use crate::store::Store;
use crate::store::requests::{Changed, Retry, RolloutWaves, StateChange};

/// Maximum number of characters of the words for a pause or an abort.
pub const BECAUSE_CHARS_MAX: usize = 256;

/// What is done with a rollout that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Workers may begin with the hosts that were frozen.
    Start,
    /// No further host begins; those that have begun go on.
    Pause,
    /// Hosts begin again; the limits of failures count anew.
    Resume,
    /// Hosts that have not begun are skipped; the others go on.
    Abort,
    /// The hosts that failed are planned again.
    Retry,
}

/// Who wants it, when, and what they saw.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What is to be done.
    pub deed: Deed,
    /// Why, in words, for a pause or an abort; may be empty.
    pub because: &'a str,
    /// Who wants it.
    pub by: &'a str,
    /// When.
    pub at: Stamp,
    /// The rollout's revision that they saw, if it has to be that still.
    pub revision: Option<i64>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The rollout is where it was to be.
    State(Deed, Changed),
    /// Hosts are planned again.
    Planned(Again),
}

impl Deed {
    /// The states in which it changes something, and the one that comes of it; nothing for
    /// [`Deed::Retry`].
    fn change(self) -> Option<(&'static [RolloutState], RolloutState)> {
        use RolloutState::{Error, Paused, Ready, Running, Scheduled};
        match self {
            Self::Start => Some((&[Ready], Scheduled)),
            Self::Pause => Some((&[Scheduled, Running], Paused)),
            Self::Resume => Some((&[Paused], Running)),
            Self::Abort => Some((&[Ready, Scheduled, Running, Paused], Error)),
            Self::Retry => None,
        }
    }

    /// Whether it would change a rollout in `state`, as far as the state tells.
    pub fn is_for(self, state: RolloutState) -> bool {
        match self.change() {
            Some((from, _)) => from.contains(&state),
            None => !matches!(state, RolloutState::Error | RolloutState::Ready),
        }
    }
}

impl Done {
    /// What came of it, in words.
    pub fn words(&self, name: &str) -> String {
        let (deed, changed) = match self {
            Self::Planned(again) => return again.words(name),
            Self::State(deed, changed) => (*deed, *changed),
        };
        let is = match deed {
            Deed::Start => "is started",
            Deed::Pause => "is paused",
            Deed::Resume | Deed::Retry => "goes on",
            Deed::Abort => "is aborted",
        };
        let already = match changed {
            Changed::Now => "",
            Changed::Before => " already: nothing was changed",
        };
        format!("rollout {name} {is}{already}")
    }
}

/// Does what is ordered, or finds that all is so already.
///
/// # Errors
/// The rollout is not where it can be done, or somebody was faster; and those of the store.
pub fn carry_out(store: &mut dyn Store, name: &str, order: &Order<'_>) -> Result<Done, DeedError> {
    let known = named(store, name)?;
    let Some((from, to)) = order.deed.change() else {
        return Ok(Done::Planned(retry(store, &known, order)?));
    };
    let rollout = &known.rollout;
    if order.deed == Deed::Start {
        match rollout.state {
            RolloutState::Ready | RolloutState::Scheduled => {}
            RolloutState::Error => {
                let (name, reason) = (rollout.name.clone(), rollout.reason.clone());
                return Err(DeedError::Ended { name, reason });
            }
            RolloutState::Paused => {
                let (name, reason) = (rollout.name.clone(), rollout.reason.clone());
                return Err(DeedError::Paused { name, reason });
            }
            RolloutState::Running | RolloutState::Finished => {
                return Ok(Done::State(order.deed, Changed::Before));
            }
        }
    }
    let reason = match (order.deed, order.because) {
        (Deed::Abort, "") => "aborted",
        (Deed::Abort | Deed::Pause, because) => because,
        (Deed::Start | Deed::Resume | Deed::Retry, _) => "",
    };
    let Order { by, at, revision, .. } = *order;
    let change = StateChange { from, to, reason, by, at, revision };
    Ok(Done::State(order.deed, store.change_state(rollout.id, &change)?))
}

/// Plans the hosts again that failed.
fn retry(
    store: &mut dyn Store,
    known: &RolloutWaves,
    order: &Order<'_>,
) -> Result<Again, DeedError> {
    let rollout = &known.rollout;
    let Order { by, at, revision, .. } = *order;
    // Whoever saw another revision is told so by the store, which alone can know.
    let is_seen = revision.is_none_or(|seen| seen == rollout.revision);
    if is_seen && !order.deed.is_for(rollout.state) {
        return Err(DeedError::NotUnderWay { name: rollout.name.clone() });
    }
    let file = RolloutFile::parse(&rollout.file).ok();
    let around_s = file.as_ref().map(RolloutFile::around_s);
    let planned = store.retry_failed(rollout.id, &Retry { by, at, revision, around_s })?;
    Ok(Again::of(&planned, file.as_ref(), at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deeds::draft;
    use crate::model::{Foresight, Host, Release, WaveState};
    use crate::rollout::prediction::{AROUND_LONGEST_S, ASSUMED_S};
    use crate::store::requests::{ClaimRequest, Open, Outcome, WaveChange};
    use crate::store::{MemoryStore, StoreError};

    const FILE: &str = r#"
name = "winter"
release = "2.0"
hosts = "all"

[[wave]]
name = "rest"
rest = true

[limits]
in-flight = []
failures = []
"#;

    fn store(file: &str) -> MemoryStore {
        let mut store = MemoryStore::default();
        let release = Release {
            digest: "ab".repeat(32),
            version: "2.0".into(),
            security_version: 1,
            vendor: "ACME".into(),
            products: vec!["S1".into()],
            size_bytes: 1,
            added_at: 0,
        };
        store.add_release(&release).expect("a release");
        let host = |name: &str| Host {
            name: name.into(),
            key: format!("key of {name}"),
            addresses: vec![([192, 0, 2, 1], 1).into()],
            vendor: "ACME".into(),
            product: "S1".into(),
            bios_version: "1.9".into(),
            agent_version: String::new(),
            security_version_floor: 0,
            labels: [("site".to_owned(), "riga".to_owned())].into(),
        };
        store.put_hosts(&["h1", "h2"].map(host)).expect("two hosts");
        let draft = draft(&mut store, file.into(), 0).expect("a plan");
        crate::deeds::create(&mut store, &draft, None, ("carl", 0)).expect("a rollout");
        store
    }

    #[test]
    fn of_two_who_saw_the_same_the_second_is_told_that_somebody_was_faster() {
        let mut store = store(FILE);
        let order = |deed, by| Order { deed, because: "", by, at: 1, revision: None };
        carry_out(&mut store, "winter", &order(Deed::Start, "anna")).expect("started");
        let seen = named(&mut store, "winter").expect("there").rollout.revision;
        let saw = |order| Order { revision: Some(seen), ..order };
        let done = carry_out(&mut store, "winter", &saw(order(Deed::Pause, "anna")));
        assert_eq!(done.expect("paused"), Done::State(Deed::Pause, Changed::Now));
        let events = store.events(0, 100).expect("events").len();
        for deed in [Deed::Abort, Deed::Resume, Deed::Retry] {
            let late = carry_out(&mut store, "winter", &saw(order(deed, "ben")));
            let is_told = matches!(&late, Err(DeedError::Store(StoreError::RolloutMoved { .. })));
            assert!(is_told, "{deed:?}: {late:?}");
        }
        // Who wants what is so already has what they want.
        let done = carry_out(&mut store, "winter", &saw(order(Deed::Pause, "ben")));
        assert_eq!(done.expect("paused"), Done::State(Deed::Pause, Changed::Before));
        let told = store.events(0, 100).expect("events");
        assert_eq!(told.len(), events, "nothing happened since");
        assert_eq!(told.last().map(|event| event.by.as_str()), Some("anna"));
    }

    #[test]
    fn a_retry_takes_what_hosts_foresee_by_now_and_names_those_that_never_begin() {
        const NIGHT: &str = "\n[[window]]\nfrom = \"22:00\"\nto = \"02:00\"\nzone = \"UTC\"\n";
        let mut store = store(&format!("{FILE}{NIGHT}"));
        let id = named(&mut store, "winter").expect("there").rollout.id;
        let to = RolloutState::Running;
        let run = StateChange {
            from: &[RolloutState::Ready],
            to,
            reason: "",
            by: "w1",
            at: 1,
            revision: None,
        };
        store.change_state(id, &run).expect("it runs");
        let (from, to) = (&[WaveState::Waiting], WaveState::Running);
        let wave = WaveChange { from, to, by: "w1", at: 1, revision: None };
        store.change_wave(id, 0, &wave).expect("its wave runs");
        let open = [Open { rollout: id, seconds: u32::MAX }];
        let (site, worker, lease_us) = ("riga", "w1", 10);
        let claim =
            ClaimRequest { site, worker, at: 2, lease_us, limit: 9, open: &open, lacking: &[] };
        let flash = Some("untouched");
        let failed = Outcome { confirmed: false, reason: None, flash, detail: "" };
        for claimed in store.claim(&claim).expect("claims") {
            store.report(claimed.attempt.id, "w1", &failed, 3).expect("a report");
        }
        let foresight = Foresight {
            host: "h2".into(),
            release: "ab".repeat(32),
            from_version: "1.9".into(),
            typical_s: 60,
            longest_s: 4 * 3600,
            at: 4,
        };
        store.keep_foresights(&[foresight]).expect("kept");
        let retry = Order { deed: Deed::Retry, because: "", by: "anna", at: 5, revision: None };
        let words = carry_out(&mut store, "winter", &retry).expect("planned").words("winter");
        let told = "2 hosts of rollout winter are planned again, 1 of them with newer predicted \
                    times; 1 of them never begin, as no window of their site is long enough: h2 \
                    (4 h 30 min)";
        assert_eq!(words, told);
        let predicted: Vec<u32> = ["h1", "h2"]
            .map(|host| store.attempts_of(host, 1).expect("attempts").remove(0).predicted_s)
            .into();
        assert_eq!(predicted, [ASSUMED_S, 4 * 3600 + AROUND_LONGEST_S]);
    }
}

//! A fleet such as operators have, and rollouts over it: where it matters how large things are.

use firmcast_fleet::model::{Host, Release, RolloutId, RolloutState};
use firmcast_fleet::rollout::file::RolloutFile;
use firmcast_fleet::rollout::plan::{Given, plan};
use firmcast_fleet::rollout::prediction::{Prediction, Source};
use firmcast_fleet::store::requests::{NewRollout, StateChange};
use firmcast_fleet::store::{Store, all_hosts};

pub(crate) fn host(number: usize, site: &str, rack: usize) -> Host {
    let (site, rack, role) = (site.to_owned(), format!("r{rack}"), "compute".to_owned());
    let labels = [("site", site), ("rack", rack), ("role", role)];
    Host {
        name: format!("host{number:06}"),
        // As long as a real one.
        key: format!("firmcast-host-key-v1 {number:044}"),
        addresses: vec![([10, 1, (number >> 8) as u8, number as u8], 9847).into()],
        vendor: "ACME Computers".to_owned(),
        product: "Server S1".to_owned(),
        bios_version: "1.9.4".to_owned(),
        agent_version: "0.1.0".to_owned(),
        security_version_floor: 3,
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

pub(crate) fn release() -> Release {
    Release {
        digest: "ab".repeat(32),
        version: "2.1.0".to_owned(),
        security_version: 4,
        vendor: "ACME Computers".to_owned(),
        products: vec!["Server S1".to_owned()],
        size_bytes: 16 << 20,
        added_at: 0,
    }
}

/// Puts hosts and the release where there are none yet.
pub(crate) fn put(store: &mut dyn Store, hosts: &[Host]) {
    store.put_hosts(hosts).unwrap();
    store.add_release(&release()).unwrap();
}

/// Creates a rollout of the release over all hosts, with the rest of its file, and lets it run.
pub(crate) fn start(store: &mut dyn Store, name: &str, rest: &str) -> RolloutId {
    let (at, hosts) = (store.now().unwrap(), all_hosts(store).unwrap());
    let version = release().version;
    let text = format!("name = \"{name}\"\nrelease = \"{version}\"\nhosts = \"all\"\n{rest}");
    let file = RolloutFile::parse(&text).unwrap();
    let (release, hosts) = (&release(), hosts.as_slice());
    let source = Source::Host { asked_at: at };
    let predicted = |_: &Host| Prediction { typical_s: 300, longest_s: 600, source };
    let given = Given { file: &file, release, hosts, predicted: &predicted, now: at };
    let new = NewRollout::of(&text, &file, &plan(&given).unwrap(), "ann".to_owned(), at);
    let id = store.create_rollout(&new).unwrap();
    let (from, to) = (&[RolloutState::Ready], RolloutState::Running);
    let change = StateChange { from, to, reason: "", by: "ann", at, revision: None };
    store.change_state(id, &change).unwrap();
    id
}

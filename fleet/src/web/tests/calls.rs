//! Dead hosts, as workers tell of them.

use super::desk::Desk;
use crate::model::Call;
use crate::store::Store as _;
use crate::web::pool::now;

#[tokio::test]
async fn dead_hosts_are_shown_with_what_to_do() {
    let mut desk = Desk::new();
    let none = desk.get("/calls").await.text;
    assert!(none.contains("No dead host calls"), "{none}");
    desk.create("winter", &[("a", "r1"), ("b", "r1")]);
    let hosts = desk.store.hosts("", 2).unwrap();
    let call = |index: usize, held: &str| Call {
        host: hosts[index].name.clone(),
        site: "north".to_owned(),
        worker: String::new(),
        since: 0,
        heard_at: now() - 61_000_000,
        address: "192.0.2.1:7070".to_owned(),
        finding: "invalid".to_owned(),
        why: "no <b>volume".to_owned(),
        stage: "waiting".to_owned(),
        done: 1,
        total: 4,
        version: "2.0".to_owned(),
        attempts: 1,
        failures: 1,
        rescues: 0,
        parked: held == "parked",
        conflict: false,
        held: held.to_owned(),
        last: "write-failed".to_owned(),
    };
    desk.store.tell_calls("w1", &[call(0, "held"), call(1, "parked")], &[], now()).unwrap();
    assert!(desk.get("/").await.text.contains("2 dead hosts call for help"));
    let calls = desk.get("/calls").await.text;
    for wanted in [
        "2 dead hosts call",
        "1 min 1 s ago, by w1",
        "invalid: no &lt;b&gt;volume",
        "waiting 1 of 4, 2.0, last try: write-failed",
        "firmcast-fleet release add BUNDLE",
        "left alone",
    ] {
        assert!(calls.contains(wanted), "no {wanted:?} in {calls}");
    }
    let host = desk.get("/host?name=a").await.text;
    assert!(
        host.contains("Calls for help") && host.contains("no &lt;b&gt;volume; waiting"),
        "{host}"
    );
    let told: Vec<Call> = serde_json::from_str(&desk.get("/api/v1/calls").await.text).unwrap();
    assert_eq!((told.len(), told[1].held.as_str()), (2, "parked"));
}

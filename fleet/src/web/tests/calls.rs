//! Dead hosts, as a service says that is played here.

use std::io::Write as _;
use std::os::unix::net::UnixListener;

use axum::http::StatusCode;

use super::desk::Desk;

const STATUS: &str = r#"{"bundles": [], "campaigns": [], "hosts": [{"host": "h<i>1", "key": "k",
    "known": false, "address": "192.0.2.1:7070", "silent_s": 61, "vendor": "ACME", "product": "S1",
    "finding": "invalid", "why": "no volume", "stage": "waiting", "phase": "calls", "done": 1,
    "total": 4, "attempts": 0, "failures": 0, "rescues": 0, "parked": false, "conflict": false,
    "held": null, "last": null}]}"#;

#[tokio::test]
async fn dead_hosts_are_shown_and_a_service_that_is_away_is_told() {
    let desk = Desk::new();
    let away = desk.get("/calls").await;
    assert_eq!(away.status, StatusCode::OK);
    assert!(away.text.contains("cannot be asked") && away.text.contains("firmcast serve runs"));

    let listener = UnixListener::bind(desk.directory.path().join("serve.sock")).unwrap();
    let service = std::thread::spawn(move || {
        for answer in [STATUS, "{}"] {
            listener.accept().unwrap().0.write_all(answer.as_bytes()).unwrap();
        }
    });
    let calls = desk.get("/calls").await.text;
    assert!(calls.contains("h&lt;i&gt;1 (not in the inventory)"), "{calls}");
    assert!(calls.contains("1 min 1 s ago") && calls.contains("invalid: no volume"), "{calls}");
    let other = desk.get("/calls").await.text;
    assert!(other.contains("is of another version"), "{other}");
    service.join().unwrap();
}

//! Webhooks: what every store keeps of them, and their delivery.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firmcast_fleet::model::{Delivery, EventKind, RolloutId, RolloutState, TRIES_UNTIL_FAILING};
use firmcast_fleet::store::requests::{Changed, StateChange, WEBHOOKS_MAX};
use firmcast_fleet::store::{Backup, FILE, MemoryStore, PostgresStore, SqliteStore};
use firmcast_fleet::store::{Store, StoreError};
use firmcast_fleet::webhooks::{LEASE_US, PAUSE_MAX_US, Postman, Sender, new_secret};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use super::receiver::{Answer, Receiver, held, read};
use super::samples::{Stores, host, release, rollout, secret, start, webhook};
use super::server::Server;

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rollout that does nothing, and the events of that.
fn begin(store: &mut dyn Store) -> RolloutId {
    store.put_hosts(&[host("a", "north")]).unwrap();
    store.add_release(&release()).unwrap();
    let id = store.create_rollout(&rollout("first", &[("a", 0, "north")])).unwrap();
    start(store, id);
    id
}

/// Pauses or resumes it, so many times: an event each.
fn disturb(store: &mut dyn Store, id: RolloutId, times: usize) {
    use RolloutState::{Paused, Running};
    for _ in 0..times {
        let state = store.rollout(id).unwrap().unwrap().rollout.state;
        let to = if state == Paused { Running } else { Paused };
        let change =
            StateChange { from: &[state], to, reason: "", by: "ann", at: 9, revision: None };
        store.change_state(id, &change).unwrap();
    }
}

#[test]
fn every_store_keeps_webhooks_and_one_sender() {
    let mut stores = Stores::new();
    for (name, store) in &mut stores.each {
        eprintln!("store: {name}");
        let store = store.as_mut();
        let mut strange = webhook("b'; --\"{id}$1", "https://a/?x=<b>");
        strange.kinds = vec![EventKind::State, EventKind::LeaseLost];
        assert_eq!(store.add_webhook(&strange).unwrap(), Changed::Now);
        assert_eq!(store.add_webhook(&strange).unwrap(), Changed::Before);
        assert_eq!(store.add_webhook(&webhook("a", "https://a/")).unwrap(), Changed::Now);
        let kept = store.webhooks().unwrap();
        let names: Vec<&str> = kept.iter().map(|each| each.name.as_str()).collect();
        assert_eq!(names, ["a", strange.name.as_str()]);
        strange.id = kept[1].id;
        assert_eq!(kept[1], strange);

        let secrets = [secret(), new_secret([9; 32])];
        store.set_secrets("a", &secrets).unwrap();
        assert_eq!(store.webhooks().unwrap()[0].secrets, secrets);
        assert!(matches!(store.set_secrets("x", &secrets), Err(StoreError::Unknown { .. })));
        assert!(matches!(store.remove_webhook("x"), Err(StoreError::Unknown { .. })));

        let told = |store: &mut dyn Store, id, delivered, failures| {
            let trouble = "no\0answer".to_owned();
            let delivery = Delivery { delivered, failures, next_at: 3, trouble };
            store.tell_delivery(id, &delivery).unwrap()
        };
        assert_eq!(told(store, strange.id, 7, 1), Changed::Now);
        assert_eq!(told(store, strange.id, 7, 2), Changed::Now);
        assert_eq!(told(store, strange.id, 6, 0), Changed::Before, "never back");
        let trouble = "no\u{fffd}answer".to_owned();
        let expected = Delivery { delivered: 7, failures: 2, next_at: 3, trouble };
        assert_eq!(store.webhooks().unwrap()[1].delivery, expected);
        store.remove_webhook(&strange.name).unwrap();
        store.add_webhook(&strange).unwrap();
        assert_eq!(told(store, strange.id, 9, 0), Changed::Before, "it is another one now");
        for number in 2..WEBHOOKS_MAX {
            store.add_webhook(&webhook(&format!("w{number}"), "https://a/")).unwrap();
        }
        let many = store.add_webhook(&webhook("one more", "https://a/"));
        assert!(matches!(many, Err(StoreError::TooMuch { .. })), "{many:?}");

        for (holder, at, until, holds) in [
            ("s1", 0, 10, true),
            ("s2", 5, 15, false),
            ("s1", 5, 15, true),
            ("s2", 14, 24, false),
            ("s2", 15, 25, true),
            ("s1", 16, 26, false),
        ] {
            assert_eq!(store.hold_webhooks(holder, at, until).unwrap(), holds, "{holder} at {at}");
        }
    }
}

/// Takes turns until the webhook is there. Time is the test's own: pauses pass at once.
#[track_caller]
fn deliver(sender: &mut Sender, store: &mut dyn Store, now: &mut i64, up_to: i64) {
    let begun = Instant::now();
    loop {
        sender.turn(store, *now, 0).unwrap();
        let webhooks = store.webhooks().unwrap();
        if webhooks.iter().all(|webhook| webhook.delivery.delivered >= up_to) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{webhooks:?}");
        if sender.is_busy() {
            sender.wait(Duration::from_millis(100));
        } else {
            let next = webhooks.iter().map(|webhook| webhook.delivery.next_at).max();
            *now = (*now).max(next.unwrap_or_default()) + 1;
        }
    }
}

#[test]
fn events_come_in_order_each_until_it_is_taken() {
    let troubles = [
        Answer::Status(204),
        Answer::Status(500),
        Answer::Close,
        Answer::Hang,
        Answer::Status(302),
        Answer::Status(410),
        Answer::Status(200),
        Answer::Endless,
    ];
    let receiver = Receiver::start(troubles);
    let (mut store, mut now) = (MemoryStore::default(), 0);
    let id = begin(&mut store);
    disturb(&mut store, id, 7);
    store.add_webhook(&webhook("chat", &receiver.url)).unwrap();
    let mut sender = Sender::new("s1", Postman::new(Duration::from_millis(500)));
    deliver(&mut sender, &mut store, &mut now, 10);
    let ids = receiver.ids();
    assert_eq!(ids, ["1", "2", "2", "2", "2", "2", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    let news = sender.take_news().join("\n");
    assert!(news.contains("answered 500"), "{news}");
    for request in receiver.requests() {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["id"], request.id());
        assert_eq!(request.headers["content-type"], "application/cloudevents+json; charset=UTF-8");
    }
    assert_signed(&receiver);
}

/// As a receiver in another language checks it, with nothing of ours.
#[track_caller]
fn assert_signed(receiver: &Receiver) {
    const CHECK: &str = "
import base64, hashlib, hmac, json, sys
count = 0
for line in sys.stdin:
    secret, id, at, signature, body = json.loads(line)
    key = base64.b64decode(secret.removeprefix('whsec_'))
    made = hmac.new(key, f'{id}.{at}.{body}'.encode(), hashlib.sha256).digest()
    assert 'v1,' + base64.b64encode(made).decode() in signature.split(' '), line
    count += 1
print(count)
";
    let mut python = Command::new("python3");
    python.args(["-c", CHECK]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("python3 checks signatures");
    let requests = receiver.requests();
    let mut input = python.stdin.take().unwrap();
    for request in &requests {
        let [id, at, signature] =
            ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|n| &request.headers[n]);
        let body = std::str::from_utf8(&request.body).unwrap();
        writeln!(input, "{}", serde_json::json!([secret().0, id, at, signature, body])).unwrap();
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    let checked = String::from_utf8(output.stdout).unwrap();
    assert_eq!(checked.trim(), requests.len().to_string());
}

#[test]
fn one_that_hangs_holds_up_nobody_and_is_failing_until_it_answers() {
    let (answer, key) = held();
    let (slow, quick) = (Receiver::start([answer]), Receiver::start([]));
    let mut store = MemoryStore::default();
    let id = begin(&mut store);
    store.add_webhook(&webhook("slow", &slow.url)).unwrap();
    let states = vec![EventKind::State];
    store
        .add_webhook(&firmcast_fleet::model::Webhook {
            kinds: states,
            ..webhook("quick", &quick.url)
        })
        .unwrap();
    let mut sender = Sender::new("s1", Postman::new(PATIENCE));
    for times in 1..=40 {
        disturb(&mut store, id, 1);
        sender.turn(&mut store, times, 0).unwrap();
        quick.await_requests(usize::try_from(times).unwrap() + 1);
        while store.webhooks().unwrap()[0].delivery.delivered < 3 + times {
            sender.wait(Duration::from_millis(10));
            sender.turn(&mut store, times, 0).unwrap();
        }
    }
    assert_eq!(quick.ids()[..3], ["2", "4", "5"], "states only");
    assert_eq!(slow.ids(), ["1"]);
    drop(key);
    deliver(&mut sender, &mut store, &mut 50, 43);
    assert_eq!(slow.ids().len(), 43);

    // A receiver that is gone; a port without one.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    store.remove_webhook("slow").unwrap();
    store.remove_webhook("quick").unwrap();
    store.add_webhook(&webhook("gone", &format!("http://{gone}/hook"))).unwrap();
    let mut now = 100;
    let mut at = Vec::new();
    while at.len() < 12 {
        sender.turn(&mut store, now, 0).unwrap();
        while sender.is_busy() {
            sender.wait(Duration::from_millis(100));
            sender.turn(&mut store, now, 0).unwrap();
        }
        let delivery = store.webhooks().unwrap().remove(0).delivery;
        assert_eq!((delivery.delivered, delivery.failures as usize), (0, at.len() + 1));
        assert_eq!(delivery.is_failing(), delivery.failures >= TRIES_UNTIL_FAILING);
        assert!(delivery.trouble.contains("cannot be reached"), "{}", delivery.trouble);
        at.push(delivery.next_at - now);
        now = delivery.next_at;
    }
    assert_eq!(at.last(), Some(&PAUSE_MAX_US));
    assert!(sender.take_news().iter().any(|news| news.contains("is failing")));
}

#[test]
fn another_sender_goes_on_when_the_lease_of_the_first_is_over() {
    let receiver = Receiver::start([]);
    let mut store = MemoryStore::default();
    let id = begin(&mut store);
    store.add_webhook(&webhook("chat", &receiver.url)).unwrap();
    let mut first = Sender::new("s1", Postman::new(PATIENCE));
    let mut second = Sender::new("s2", Postman::new(PATIENCE));
    deliver(&mut first, &mut store, &mut 0, 3);
    disturb(&mut store, id, 1);
    second.turn(&mut store, LEASE_US - 1, 0).unwrap();
    assert!(!second.is_busy(), "the first one has the lease");
    deliver(&mut second, &mut store, &mut (2 * LEASE_US), 4);
    disturb(&mut store, id, 1);
    first.turn(&mut store, 2 * LEASE_US + 1, 0).unwrap();
    assert!(!first.is_busy(), "the second one has the lease");
    second.give_up(&mut store, 2 * LEASE_US + 2).unwrap();
    deliver(&mut first, &mut store, &mut (3 * LEASE_US), 5);
    assert_eq!(receiver.ids(), ["1", "2", "3", "4", "5"]);
}

/// A sender as a process; it does not outlive its test.
struct Process(Child);

impl Process {
    fn start(place: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast-fleet"));
        command.env_remove("FIRMCAST_FLEET_STORE").args(["webhooks", "--name", "s1"]);
        Self(command.args(place).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_sender_killed_after_the_answer_sends_again_with_sqlite() {
    let folder = TempDir::new().unwrap();
    let mut store = SqliteStore::open(folder.path()).unwrap();
    let state = folder.path().to_str().unwrap().to_owned();
    let file = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    killed_between_answer_and_commit(&mut store, &["--state", &state], &|| {
        file.execute_batch("BEGIN IMMEDIATE").unwrap();
        Box::new(|| file.execute_batch("ROLLBACK").unwrap())
    });
}

#[test]
fn a_sender_killed_after_the_answer_sends_again_with_postgres() {
    let server = Server::start();
    let url = server.database();
    let mut store = PostgresStore::open(&url, Backup::Unconfirmed).unwrap();
    killed_between_answer_and_commit(&mut store, &["--store", &url], &|| {
        let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
        client.batch_execute("BEGIN; LOCK TABLE webhooks IN EXCLUSIVE MODE").unwrap();
        Box::new(move || client.batch_execute("ROLLBACK").unwrap())
    });
}

/// `lock` keeps everybody from telling how far a webhook is, until what it returns is called.
fn killed_between_answer_and_commit<'a>(
    store: &mut dyn Store,
    place: &[&str],
    lock: &dyn Fn() -> Box<dyn FnOnce() + 'a>,
) {
    let (answer, key) = held();
    let receiver = Receiver::start([answer]);
    begin(store);
    store.add_webhook(&webhook("chat", &receiver.url)).unwrap();
    let sender = Process::start(place);
    receiver.await_requests(1);
    let unlock = lock();
    drop(key);
    receiver.await_requests(3);
    drop(sender);
    unlock();
    assert_eq!(store.webhooks().unwrap()[0].delivery.delivered, 0, "killed before it was kept");
    let mut sender = Process::start(place);
    receiver.await_requests(6);
    let begun = Instant::now();
    while store.webhooks().unwrap()[0].delivery.delivered < 3 {
        assert!(begun.elapsed() < PATIENCE, "it was not kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut times = BTreeMap::<String, usize>::new();
    receiver.ids().into_iter().for_each(|id| *times.entry(id).or_default() += 1);
    assert_eq!(times.into_values().collect::<Vec<_>>(), [2, 2, 2], "twice, not never");
    assert_signed(&receiver);
    // Told to stop, it lets go of the lease at once.
    let pid = nix::unistd::Pid::from_raw(sender.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(sender.0.wait().unwrap().code(), Some(0));
    let until = store.survey(0).unwrap().sender_until.unwrap();
    assert!(store.hold_webhooks("another", until, until + 1).unwrap());
}

/// The authority and the server of `tls/` are made for this test; the key protects nothing.
#[test]
fn tls_trusts_the_systems_authorities_and_nobody_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/tls");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut reader = BufReader::new(rustls::StreamOwned::new(session, stream.unwrap()));
            if read(&mut reader).is_some() {
                let answer = b"HTTP/1.1 204 x\r\ncontent-length: 0\r\n\r\n";
                reader.get_mut().write_all(answer).unwrap();
            }
        }
    });
    let state = TempDir::new().unwrap();
    SqliteStore::open(state.path()).unwrap().add_webhook(&webhook("chat", &url)).unwrap();
    let run = |trusted: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast-fleet"));
        command.env_remove("FIRMCAST_FLEET_STORE").env("SSL_CERT_FILE", trusted);
        command.env_remove("SSL_CERT_DIR").args(["webhook", "test", "chat", "--state"]);
        command.arg(state.path()).output().unwrap()
    };
    let refused = run(&folder.join("cert.pem"));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("certificate"), "{said}");
    let taken = run(&folder.join("ca.pem"));
    assert!(taken.status.success(), "{taken:?}");
}

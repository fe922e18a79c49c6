//! The page on a store in a file, asked in the same process.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::model::{Attempt, Host, Release, RolloutState, WaveState};
use crate::rollout::file::RolloutFile;
use crate::rollout::plan::{Given, plan};
use crate::rollout::prediction::Prediction;
use crate::store::requests::{ClaimRequest, NewRollout, Open, Outcome, StateChange, WaveChange};
use crate::store::{SqliteStore, Store};
use crate::web::guard::{Local, Peer, Within};
use crate::web::limits::Patience;
use crate::web::pool::now;
use crate::web::{Door, Front, Live, Names, OpenStore, SeenCache, Site, StorePool, router};

/// Where the page believes to listen.
const LISTEN: &str = "127.0.0.1:8420";

const WORKER: &str = "worker <1>";

const FILE: &str = r#"
release = "2.0"
hosts = "all"

[[wave]]
name = "canary"
count = 1
soak = "30 min"

[[wave]]
name = "rest"
rest = true

[limits]
in-flight = [{ per = "rack", hosts = 2 }]
failures = [{ per = "all", hosts = 2 }]
"#;

pub(super) struct Desk {
    pub(super) directory: TempDir,
    pub(super) store: SqliteStore,
    pub(super) live: Live,
    pub(super) pages: Router,
    site: Site,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Desk {
    pub(super) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut store = SqliteStore::open(directory.path()).unwrap();
        let release = Release {
            digest: "ab".repeat(32),
            version: "2.0".to_owned(),
            security_version: 4,
            vendor: "ACME".to_owned(),
            products: vec!["S1".to_owned()],
            size_bytes: 1 << 24,
            added_at: 1,
        };
        store.add_release(&release).unwrap();
        let path = directory.path().to_owned();
        let open: OpenStore = Arc::new(move || Ok(Box::new(SqliteStore::open(&path)?)));
        let site = Site {
            store: StorePool::start(&open),
            live: Live::follow(&open),
            seen: SeenCache::default(),
        };
        let live = site.live.clone();
        let door = Arc::new(Door::new(directory.path(), None, Vec::new()).stopped());
        let pages = router(site.clone(), Names::new(&["fleet.example".to_owned()]), door);
        Self { directory, store, live, pages, site }
    }

    /// Puts a proxy in front.
    pub(super) fn put_behind(&mut self, front: Front) {
        let door = Arc::new(Door::new(self.directory.path(), Some(front), Vec::new()));
        self.pages = router(self.site.clone(), Names::default(), door);
    }

    /// Creates a rollout over all hosts, with a host for each pair of a name and a rack.
    pub(super) fn create(&mut self, name: &str, hosts: &[(&str, &str)]) {
        let hosts: Vec<Host> = hosts.iter().map(|(name, rack)| host(name, rack)).collect();
        self.store.put_hosts(&hosts).unwrap();
        let text = format!("name = {}\n{FILE}", serde_json::to_string(name).unwrap());
        let file = RolloutFile::parse(&text).unwrap();
        let release = self.store.releases("", 1).unwrap().remove(0);
        let predicted = |_: &_| Prediction::ASSUMED;
        let given =
            Given { file: &file, release: &release, hosts: &hosts, predicted: &predicted, now: 5 };
        let plan = plan(&given).unwrap();
        let new = NewRollout::of(&text, &file, &plan, "ann <script>".to_owned(), 5);
        self.store.create_rollout(&new).unwrap();
    }

    /// Changes the state of the first rollout.
    pub(super) fn set(&mut self, from: RolloutState, to: RolloutState) {
        let from = &[from];
        let change = StateChange { from, to, reason: "", by: "ann", at: now(), revision: None };
        self.store.change_state(1, &change).unwrap();
    }

    /// Lets a wave of the first rollout begin.
    pub(super) fn run_wave(&mut self, wave: u32, from: WaveState) {
        let (from, to) = (&[from], WaveState::Running);
        let change = WaveChange { from, to, by: "ann", at: now(), revision: None };
        self.store.change_wave(1, wave, &change).unwrap();
    }

    /// Claims hosts for a worker.
    pub(super) fn claim(&mut self, limit: usize) -> Vec<Attempt> {
        let open = [Open { rollout: 1, seconds: u32::MAX }];
        let (site, worker, lease_us) = ("riga", WORKER, 60_000_000);
        let request =
            ClaimRequest { site, worker, at: now(), lease_us, limit, open: &open, lacking: &[] };
        let claims = self.store.claim(&request).unwrap();
        claims.into_iter().map(|claim| claim.attempt).collect()
    }

    /// Lets a host end in the worst way.
    pub(super) fn fail(&mut self, attempt: &Attempt) {
        let (reason, flash) = (Some("write-failed"), Some("mixed"));
        let outcome = Outcome { confirmed: false, reason, flash, detail: "block 0x1000" };
        self.store.report(attempt.id, WORKER, &outcome, now()).unwrap();
    }

    pub(super) async fn stream(&self, path: &str, last: Option<&str>) -> Response {
        let request = Request::get(path).header("host", LISTEN);
        let request =
            last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(Local(LISTEN.parse().unwrap()));
        request.extensions_mut().insert(Within(Patience::default().request));
        self.pages.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header("host", LISTEN).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn send(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(Local(LISTEN.parse().unwrap()));
        request.extensions_mut().insert(Within(Patience::default().request));
        request.extensions_mut().insert(Peer([127, 0, 0, 1].into()));
        let response = self.pages.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, 1 << 26).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, text }
    }
}

pub(super) fn host(name: &str, rack: &str) -> Host {
    let labels = [("site", "riga"), ("rack", rack)];
    Host {
        name: name.to_owned(),
        key: format!("key of {name}"),
        addresses: vec!["192.0.2.1:7070".parse().unwrap()],
        vendor: "ACME".to_owned(),
        product: "S1".to_owned(),
        bios_version: "1.9".to_owned(),
        agent_version: String::new(),
        security_version_floor: 3,
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

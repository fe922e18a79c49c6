//! `firmcast-fleet web` as a process: where it listens, whom it believes, how it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use firmcast::keys::{self, ManagerSecretKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::{Value, json};

use super::Desk;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery";

/// The page, which does not outlive its test.
struct Page {
    child: Child,
    address: SocketAddr,
}

impl Page {
    fn start(desk: &Desk, arguments: &[&str]) -> Self {
        let mut command = desk.command(&["web", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("the page is at http://").unwrap();
        let address = address.trim_end_matches('/').parse().unwrap();
        Self { child, address }
    }

    /// Sends bytes and leaves the connection open.
    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may close before all is sent.
        let _ = stream.write_all(bytes);
        stream
    }

    /// Status, head and body of what comes for these bytes.
    fn raw(&self, bytes: &[u8]) -> (u16, String, String) {
        let mut answer = Vec::new();
        let _ = self.send(bytes).read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
        (status, head.to_owned(), body.to_owned())
    }

    fn ask(&self, line: &str, fields: &str, body: &str) -> (u16, String, String) {
        let length = body.len();
        let (address, close) = (self.address, "connection: close");
        let head = format!("{line} HTTP/1.1\r\nhost: {address}\r\n{close}\r\n{fields}");
        self.raw(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())
    }

    fn get(&self, path: &str, fields: &str) -> (u16, String, String) {
        self.ask(&format!("GET {path}"), fields, "")
    }

    fn form(&self, path: &str, fields: &str, body: &str) -> (u16, String, String) {
        let kind = "content-type: application/x-www-form-urlencoded\r\n";
        self.ask(&format!("POST {path}"), &format!("{kind}{fields}"), body)
    }

    fn api(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let fields = format!("content-type: application/json\r\nauthorization: Bearer {token}\r\n");
        let (status, _, body) = self.ask(&format!("POST {path}"), &fields, &body.to_string());
        (status, serde_json::from_str(&body).unwrap())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who may log in, and whose programs may act.
fn add_person(desk: &Desk, name: &str) -> String {
    let mut command = desk.command(&["people", "add", name]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(child.wait().unwrap().success());
    desk.says(&["people", "token", name, "program", "--may", "act"]).trim().to_owned()
}

#[test]
fn bad_clients_get_their_answer_and_sigterm_ends_the_page_with_streams_open() {
    let desk = Desk::new();
    desk.says(&["rollout", "create", "winter.toml"]);
    let mut page = Page::start(&desk, &[]);
    for path in ["/../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "/%00", "//etc/passwd"] {
        let (status, _, body) = page.get(path, "");
        assert_eq!((status, body.contains("root:")), (404, false), "{path}");
    }
    for head in ["GET /\0 HTTP/1.1\r\n", "GET /\u{e4} HTTP/1.1\r\n", "GET / HTTP/9.9\r\n", "\r\n\0"]
    {
        let (status, ..) = page.raw(format!("{head}host: localhost\r\n\r\n").as_bytes());
        assert!([0, 400, 404, 505].contains(&status), "{head:?}: {status}");
    }
    let long = format!("name=anna&password={}", "x".repeat(64 * 1024));
    assert_eq!(page.form("/login", "", &long).0, 400);
    let foreign = page.raw(b"GET / HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert_eq!(foreign.0, 421);

    let streams: Vec<TcpStream> = (0..50)
        .map(|_| {
            let head = b"GET /live?after=0 HTTP/1.1\r\nhost: localhost\r\n\r\n";
            let mut stream = page.send(head);
            let mut first = [0; 15];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200 OK");
            stream
        })
        .collect();
    kill(Pid::from_raw(page.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    for mut stream in streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("0\r\n\r\n"), "ends as HTTP says: {rest:?}");
    }
    assert_eq!(page.child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(page.address).is_err());
}

#[test]
fn it_listens_for_others_behind_a_proxy_only_and_believes_nobody_else() {
    let desk = Desk::new();
    desk.says(&["rollout", "create", "winter.toml"]);
    let refused = desk.refuses(&["web", "--listen", "0.0.0.0:0"]);
    assert!(refused.contains("--behind-proxy"), "{refused}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = desk.refuses(&["web", "--listen", &address]);
    assert!(refused.contains(&format!("cannot listen at {address}")), "{refused}");
    let alone = desk.run(&["web", "--user-header", "X-Remote-User"]);
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");

    let front = ["--behind-proxy", "--user-header", "X-Remote-User", "--name", "fleet.example"];
    let person = "x-remote-user: anna\r\n";
    let page = Page::start(&desk, &front);
    assert!(page.get("/act?rollout=winter", person).2.contains("You are <strong>anna"));
    let named = b"GET / HTTP/1.1\r\nhost: fleet.example\r\nconnection: close\r\n\r\n";
    assert_eq!(page.raw(named).0, 200);
    drop(page);
    let elsewhere = [&front[..], &["--proxy", "192.0.2.1"]].concat();
    let page = Page::start(&desk, &elsewhere);
    assert!(page.get("/act?rollout=winter", person).2.contains("Log in to act"));
}

#[test]
fn no_other_site_logs_in_or_acts_and_nobody_prepares_a_session() {
    let desk = Desk::new();
    desk.says(&["rollout", "create", "winter.toml"]);
    add_person(&desk, "anna");
    let page = Page::start(&desk, &[]);
    let own = format!("origin: http://{}\r\n", page.address);
    let login = format!("name=anna&password={}&rollout=winter", PASSWORD.replace(' ', "+"));
    let others = ["", "origin: http://evil.example\r\n", "origin: null\r\n"];
    for origin in others {
        let (status, head, _) = page.form("/login", origin, &login);
        assert_eq!((status, head.contains("set-cookie")), (403, false), "{origin}");
    }
    let planted = format!("cookie: firmcast-fleet={}\r\n", "ab".repeat(32));
    let (status, head, _) = page.form("/login", &format!("{own}{planted}"), &login);
    assert_eq!(status, 303, "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_ne!(cookie, planted);
    assert!(page.get("/act?rollout=winter", &planted).2.contains("Log in to act"));

    let form = page.get("/act?rollout=winter", &cookie).2;
    let hidden = |name: &str| {
        let (_, rest) = form.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let (token, seen) = (hidden("token"), hidden("revision"));
    let start = format!("rollout=winter&deed=start&revision={seen}&token={token}");
    for origin in others {
        let (status, ..) = page.form("/act", &format!("{origin}{cookie}"), &start);
        assert_eq!(status, 403, "{origin}");
    }
    assert_eq!(desk.state(), "ready");
    assert_eq!(page.form("/act", &format!("{own}{cookie}"), &start).0, 303);
    assert_eq!(desk.state(), "scheduled");
}

#[test]
fn what_rollout_sign_writes_is_taken_over_http_from_an_approver_and_nobody_else() {
    let desk = Desk::new();
    for (name, seed) in [("anna.key", 1), ("ben.key", 2)] {
        let key = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([seed; 32]));
        keys::create_pair(&desk.directory.path().join(name), &key, None).unwrap();
    }
    desk.says(&["rollout", "create", "winter.toml"]);
    let digest = desk.json(&["rollout", "show", "winter", "--json"])["rollout"]["plan_digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let sign = |key: &str, plan: &str| {
        // Where a person has their key there is no store.
        let sign = ["rollout", "sign", "rest", "--plan", plan, "--key", key];
        desk.json(&[&sign[..], &["--state", "/nonexistent"]].concat())
    };
    let (anna, ben) = (add_person(&desk, "anna"), add_person(&desk, "ben"));
    let reads = desk.says(&["people", "token", "anna", "reads"]);
    let page = Page::start(&desk, &["--approver", "anna.pub"]);
    let approve = |token: &str, body: &Value| page.api("/api/v1/rollouts/1/approvals", token, body);
    let signed = sign("anna.key", &digest);

    assert_eq!(approve("firmcast_nobody", &signed).0, 401);
    assert_eq!(approve(reads.trim(), &signed).0, 403);
    let of_ben = approve(&ben, &sign("ben.key", &digest));
    assert_eq!(of_ben.0, 403, "ben is not asked");
    assert!(of_ben.1["detail"].as_str().unwrap().contains("--approver"), "{of_ben:?}");
    assert_eq!(approve(&anna, &sign("anna.key", &"0".repeat(64))).0, 403, "another plan");
    let other_wave = json!({ "wave": "canary", "key": signed["key"],
        "signature": signed["signature"] });
    assert_eq!(approve(&anna, &other_wave).0, 403, "another wave");
    assert_eq!(
        approve(
            &anna,
            &json!({ "wave": "third", "key": "k",
        "signature": "00".repeat(64) })
        )
        .0,
        404
    );
    let is_approved = || desk.says(&["events", "--json"]).matches("\"approved\"").count();
    assert_eq!(is_approved(), 0);

    let done = approve(&anna, &signed);
    assert_eq!((done.0, &done.1["done"]), (200, &json!("wave rest is approved")));
    assert_eq!(approve(&anna, &signed).0, 200, "a second time changes nothing");
    assert_eq!(is_approved(), 1);
    let events = desk.says(&["events", "--json"]);
    assert!(events.contains("\"by\":\"anna\""), "{events}");

    // Who creates a rollout does not approve it, whatever they sign.
    let file = super::ROLLOUT.replace("\"winter\"", "\"spring\"");
    let digest = desk.directory.path().join("spring.toml");
    std::fs::write(&digest, &file).unwrap();
    let plan = desk.json(&["rollout", "plan", "spring.toml", "--json"])["digest"].clone();
    let created = page.api("/api/v1/rollouts", &anna, &json!({ "file": file, "plan": plan }));
    assert_eq!(created.0, 201, "{created:?}");
    let own = sign("anna.key", plan.as_str().unwrap());
    let own = page.api(&format!("/api/v1/rollouts/{}/approvals", created.1["id"]), &anna, &own);
    assert!(own.0 == 403 && own.1["detail"].as_str().unwrap().contains("somebody else"), "{own:?}");
}

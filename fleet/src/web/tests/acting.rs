//! Who may change something, and what is tried by those who may not.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::desk::{Answer, Desk};
use crate::model::{RolloutState, Stamp, Worker};
use crate::people::{May, Password, Register};
use crate::rollout::file::FILE_BYTES_MAX;
use crate::store::Store as _;
use crate::web::limits::{BODY_BYTES_MAX, ROLLOUT_BODY_BYTES_MAX};
use crate::web::{Front, HeaderName};

const PASSWORD: &str = "correct horse";
const HOST: &str = "127.0.0.1:8420";

fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.create("winter", &[("h1", "r1"), ("h2", "r2")]);
    let register = Register::in_state(desk.directory.path());
    let password = Password::new(PASSWORD, [1; 16]).unwrap();
    register.change(|roster| roster.add("anna", password)).unwrap();
    desk
}

fn token(desk: &Desk, may: May) -> String {
    let register = Register::in_state(desk.directory.path());
    let (label, secret) = match may {
        May::Read => ("looks", [3; 32]),
        May::Act => ("acts", [4; 32]),
    };
    register.change(|roster| roster.add_token("anna", label, (may, Stamp::MAX), secret)).unwrap()
}

/// Sends a form as the page itself does, or as another site does.
async fn form(desk: &Desk, path: &str, site: &str, cookie: &str, fields: &str) -> Answer {
    let request = Request::post(path)
        .header("host", HOST)
        .header("sec-fetch-site", site)
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded");
    desk.send(request.body(Body::from(fields.to_owned())).unwrap()).await
}

async fn get(desk: &Desk, path: &str, cookie: &str) -> Answer {
    let request = Request::get(path).header("host", HOST).header("cookie", cookie);
    desk.send(request.body(Body::empty()).unwrap()).await
}

async fn log_in(desk: &Desk, cookie: &str) -> String {
    let fields = format!("name=anna&password={}&rollout=winter", PASSWORD.replace(' ', "+"));
    let answer = form(desk, "/login", "same-origin", cookie, &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.headers["location"], "/act?rollout=winter");
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

fn hidden(page: &str, name: &str) -> String {
    let start = page.find(&format!("name=\"{name}\" value=\"")).expect("a field");
    page[start..].split('"').nth(3).unwrap().to_owned()
}

fn state(desk: &mut Desk) -> (RolloutState, i64) {
    let found = desk.store.rollout_named("winter").unwrap().unwrap().rollout;
    (found.state, found.revision)
}

#[tokio::test]
async fn a_person_logs_in_starts_pauses_and_aborts_and_events_say_who() {
    let mut desk = desk();
    let page = get(&desk, "/act?rollout=winter", "").await;
    assert!(page.text.contains("/login?rollout=winter") && !page.text.contains("action=\"/act\""));
    let cookie = log_in(&desk, "").await;
    for (deed, expected) in [
        ("start", RolloutState::Scheduled),
        ("pause", RolloutState::Paused),
        ("abort", RolloutState::Error),
    ] {
        let page = get(&desk, "/act?rollout=winter", &cookie).await;
        assert!(page.text.contains(&format!("value=\"{deed}\"")), "{deed}: {}", page.text);
        let (token, seen) = (hidden(&page.text, "token"), hidden(&page.text, "revision"));
        let fields = format!("rollout=winter&deed={deed}&revision={seen}&token={token}");
        let mut answer = form(&desk, "/act", "same-origin", &cookie, &fields).await;
        if deed == "abort" {
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.text.contains("Abort it"), "{}", answer.text);
            assert_eq!(state(&mut desk).0, RolloutState::Paused, "asked first");
            let sure = format!("{fields}&sure=true");
            answer = form(&desk, "/act", "same-origin", &cookie, &sure).await;
        }
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{deed}: {}", answer.text);
        assert_eq!(state(&mut desk).0, expected);
    }
    let events = desk.store.events(0, 100).unwrap();
    assert_eq!(events.iter().filter(|event| event.by == "anna").count(), 3, "{events:?}");

    let page = get(&desk, "/act?rollout=winter", &cookie).await;
    let fields = format!("token={}", hidden(&page.text, "token"));
    let answer = form(&desk, "/logout", "same-origin", &cookie, &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let page = get(&desk, "/act?rollout=winter", &cookie).await;
    assert!(page.text.contains("Log in to act"), "the session is over, whatever is sent");
}

#[tokio::test]
async fn other_sites_prepared_sessions_and_late_comers_change_nothing() {
    let mut desk = desk();
    // A session that somebody else put into the browser is not the one that a person gets.
    let planted = format!("firmcast-fleet={}", "ab".repeat(32));
    let cookie = log_in(&desk, &planted).await;
    assert_ne!(cookie, planted);
    assert!(get(&desk, "/act?rollout=winter", &planted).await.text.contains("Log in to act"));
    let second = log_in(&desk, &cookie).await;
    assert!(get(&desk, "/act?rollout=winter", &cookie).await.text.contains("Log in to act"));

    let page = get(&desk, "/act?rollout=winter", &second).await;
    let (token, seen) = (hidden(&page.text, "token"), hidden(&page.text, "revision"));
    let fields = format!("rollout=winter&deed=start&revision={seen}&token={token}");
    let none = format!("rollout=winter&deed=start&revision={seen}&token=");
    let own = get(&desk, "/act?rollout=winter", &log_in(&desk, "").await).await;
    let of_other = fields.replace(&token, &hidden(&own.text, "token"));
    for (site, cookie, fields) in [
        ("cross-site", second.as_str(), &fields),
        ("same-site", &second, &fields),
        ("none", &second, &fields),
        ("same-origin", &second, &none),
        ("same-origin", &second, &of_other),
        ("same-origin", "", &fields),
        ("same-origin", &format!("{second}; {second}"), &fields),
        ("same-origin", &planted, &fields),
    ] {
        let answer = form(&desk, "/act", site, cookie, fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{site} {cookie} {fields}");
    }
    assert_eq!(state(&mut desk).0, RolloutState::Ready);
    let crossed = form(&desk, "/login", "cross-site", "", "name=anna&password=x").await;
    assert_eq!(crossed.status, StatusCode::FORBIDDEN, "no login by another site");

    let done = form(&desk, "/act", "same-origin", &second, &fields).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    let late = fields.replace("deed=start", "deed=pause");
    let late = form(&desk, "/act", "same-origin", &second, &late).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(late.text.contains("look at it again"), "{}", late.text);
    assert_eq!(state(&mut desk).0, RolloutState::Scheduled);
}

#[tokio::test]
async fn a_guesser_is_made_to_wait_and_learns_no_names() {
    let desk = desk();
    let mut told = Vec::new();
    for name in ["anna", "nobody"] {
        let fields = format!("name={name}&password=wrong+password");
        let mut answer = form(&desk, "/login", "same-origin", "", &fields).await;
        told.push(answer.text.clone());
        let mut tries = 1;
        while answer.status == StatusCode::FORBIDDEN {
            answer = form(&desk, "/login", "same-origin", "", &fields).await;
            tries += 1;
        }
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(tries < 20, "{tries}");
    }
    assert_eq!(told[0], told[1]);
    let right = format!("name=anna&password={}", PASSWORD.replace(' ', "+"));
    let answer = form(&desk, "/login", "same-origin", "", &right).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "not even the right one");
}

#[tokio::test]
async fn a_proxy_s_word_counts_from_the_proxy_alone() {
    let mut desk = desk();
    let front = |proxy: [u8; 4]| Front {
        proxies: vec![proxy.into()],
        user_header: Some(HeaderName::from_static("x-remote-user")),
    };
    for (proxy, is_known) in [([127, 0, 0, 1], true), ([192, 0, 2, 7], false)] {
        desk.put_behind(front(proxy));
        for (name, is_name) in [("ben@example.org", true), ("<b>", false)] {
            let request = Request::get("/act?rollout=winter").header("host", HOST);
            let request = request.header("x-remote-user", name).body(Body::empty()).unwrap();
            let page = desk.send(request).await.text;
            assert_eq!(page.contains("You are"), is_known && is_name, "{name} {proxy:?}: {page}");
        }
    }
}

async fn api(desk: &Desk, request: axum::http::request::Builder, body: &str) -> (u16, Value) {
    let request = request.header("host", HOST).header("content-type", "application/json");
    let answer = desk.send(request.body(Body::from(body.to_owned())).unwrap()).await;
    let value = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
    if answer.status.as_u16() >= 400 {
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", answer.text);
        assert_eq!(value["status"], answer.status.as_u16());
    }
    (answer.status.as_u16(), value)
}

#[tokio::test]
async fn a_program_plans_creates_and_acts_as_far_as_its_token_goes() {
    let mut desk = desk();
    let (reads, acts) = (token(&desk, May::Read), token(&desk, May::Act));
    let with = |path: &str, token: &str| {
        Request::post(path).header("authorization", format!("Bearer {token}"))
    };
    let found = desk.store.rollout_named("winter").unwrap().unwrap().rollout;
    let file = found.file.replace("\"winter\"", "\"spring\"");
    let plan = api(&desk, with("/api/v1/plans", &reads), &file).await;
    assert_eq!((plan.0, plan.1["waves"].as_array().unwrap().len()), (200, 2), "{plan:?}");
    let wrong = api(&desk, with("/api/v1/plans", &reads), "name = 3").await;
    assert_eq!((wrong.0, &wrong.1["problems"][0]["line"]), (422, &json!(1)), "{wrong:?}");
    assert!(wrong.1["detail"].as_str().unwrap().contains("line 1"), "{wrong:?}");
    assert_eq!(api(&desk, Request::post("/api/v1/plans"), &file).await.0, 401);

    let body = |plan: &Value| json!({ "file": file, "plan": plan }).to_string();
    let new = "/api/v1/rollouts";
    assert_eq!(api(&desk, with(new, &reads), &body(&plan.1["digest"])).await.0, 403);
    let other = json!("00".repeat(32));
    assert_eq!(api(&desk, with(new, &acts), &body(&other)).await.0, 409, "another plan");
    assert_eq!(api(&desk, with(new, &acts), &body(&json!("00"))).await.0, 422, "no digest");
    let created = api(&desk, with(new, &acts), &body(&plan.1["digest"])).await;
    assert_eq!(created.0, 201, "{created:?}");
    let again = api(&desk, with(new, &acts), &body(&plan.1["digest"])).await;
    assert_eq!(again.0, 409, "{again:?}");

    let path = format!("/api/v1/rollouts/{}", created.1["id"]);
    let shown = desk.get(&path).await;
    let tag = shown.headers["etag"].to_str().unwrap().to_owned();
    let deeds = format!("{path}/deeds");
    assert_eq!(api(&desk, with(&deeds, &reads), r#"{"deed":"start"}"#).await.0, 403);
    assert_eq!(api(&desk, with(&deeds, &acts), r#"{"deed":"start","x":1}"#).await.0, 422);
    let start = with(&deeds, &acts).header("if-match", &tag);
    assert_eq!(api(&desk, start, r#"{"deed":"start"}"#).await.0, 200);
    let late = with(&deeds, &acts).header("if-match", &tag);
    assert_eq!(api(&desk, late, r#"{"deed":"abort"}"#).await.0, 409, "somebody was faster");
    let cookie = log_in(&desk, "").await;
    let by_browser = Request::post(&deeds).header("cookie", &cookie);
    assert_eq!(api(&desk, by_browser, r#"{"deed":"abort"}"#).await.0, 401, "tokens alone count");
    let events = desk.store.events(0, 100).unwrap();
    assert_eq!(events.last().unwrap().by, "anna");

    let forged = json!({ "wave": "rest", "key": "k", "signature": "00".repeat(64) }).to_string();
    let approval = with(&format!("{path}/approvals"), &acts);
    assert_eq!(api(&desk, approval, &forged).await.0, 403);
    for (looked, status) in [
        ("/api/v1/rollouts?limit=1", 200),
        ("/api/v1/rollouts?limit=0", 400),
        ("/api/v1/rollouts?limit=100000", 400),
        ("/api/v1/rollouts?limits=1", 400),
        ("/api/v1/rollouts/99", 404),
        ("/api/v1/rollouts/%2e%2e", 400),
        ("/api/v1/rollouts/1/attempts?after=0.0", 400),
        ("/api/v1/hosts?selector=site%3Driga", 200),
        ("/api/v1/hosts?selector=%3D", 422),
        ("/api/v1/events?after=2", 200),
    ] {
        assert_eq!(api(&desk, Request::get(looked), "").await.0, status, "{looked}");
    }
    let worker = Worker {
        name: "w1".to_owned(),
        site: "riga".to_owned(),
        seen_at: 7,
        waits_for: "bundle ab".to_owned(),
        lacking: vec!["ab".repeat(32)],
    };
    desk.store.see_worker(&worker).unwrap();
    let workers = api(&desk, Request::get("/api/v1/workers"), "").await.1;
    assert_eq!(workers, json!([worker]));
    let first = api(&desk, Request::get("/api/v1/rollouts/1/attempts?limit=1"), "").await.1;
    let next = first["next"].as_str().unwrap();
    let path = format!("/api/v1/rollouts/1/attempts?limit=9&after={next}");
    let second = api(&desk, Request::get(path.as_str()), "").await.1;
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn a_rollout_file_may_be_as_large_as_the_store_keeps_it_and_nothing_else_may() {
    let mut desk = desk();
    let acts = token(&desk, May::Act);
    let with = |path: &str| Request::post(path).header("authorization", format!("Bearer {acts}"));
    let found = desk.store.rollout_named("winter").unwrap().unwrap().rollout;
    let mut file = found.file.replace("\"winter\"", "\"spring\"") + "# ";
    file += &"\u{e4}".repeat((FILE_BYTES_MAX - file.len()) / 2);
    let plan = api(&desk, with("/api/v1/plans"), &file).await;
    assert_eq!(plan.0, 200, "{plan:?}");
    let larger = format!("{file}\n#");
    assert!(larger.len() > FILE_BYTES_MAX);
    assert_eq!(api(&desk, with("/api/v1/plans"), &larger).await.0, 413);

    let body = |file: &str| json!({ "file": file, "plan": plan.1["digest"] }).to_string();
    // As programs write it that send ASCII alone.
    let escaped = body(&file).replace('\u{e4}', "\\u00e4");
    assert!(escaped.len() > 2 * FILE_BYTES_MAX);
    let refused = api(&desk, Request::post("/api/v1/rollouts"), &escaped).await;
    assert_eq!(refused.0, 401, "nobody's body is read");
    assert_eq!(api(&desk, with("/api/v1/rollouts"), &escaped).await.0, 201);
    assert_eq!(api(&desk, with("/api/v1/rollouts"), &body(&larger)).await.0, 422);
    let huge = body(&" ".repeat(ROLLOUT_BODY_BYTES_MAX));
    assert_eq!(api(&desk, with("/api/v1/rollouts"), &huge).await.0, 413);
    let because = json!({ "deed": "start", "because": "x".repeat(BODY_BYTES_MAX) }).to_string();
    assert_eq!(api(&desk, with("/api/v1/rollouts/1/deeds"), &because).await.0, 413);
}

#[tokio::test]
async fn the_description_of_the_api_names_every_route() {
    let desk = Desk::new();
    let described: Value = serde_json::from_str(&desk.get("/api/openapi.json").await.text).unwrap();
    assert_eq!(described["openapi"], "3.1.0");
    let operations = described["paths"].as_object().unwrap().values();
    let operations = operations.map(|path| path.as_object().unwrap().len()).sum::<usize>();
    assert_eq!(operations, 11);
}

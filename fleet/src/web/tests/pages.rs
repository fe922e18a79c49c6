//! Pages of rollouts, hosts and events.

use axum::http::StatusCode;

use super::desk::{Desk, host};
use crate::model::{RolloutState, WaveState};
use crate::store::Store as _;

/// What somebody may name a host or a rack.
const HOSTILE: [&str; 9] = [
    "<img src=x onerror=alert(1)>",
    "\"><script>alert(1)</script>",
    "'&amp;&",
    "..",
    "/../../etc/passwd",
    "a?b=c#d&e=f",
    "100%",
    "\u{202e}gpj.exe\u{7}\n",
    "javascript:alert(1)",
];

/// The values of an attribute in a page.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let before = format!(" {attribute}=\"");
    let parts = page.split(before.as_str()).skip(1);
    parts.map(|part| part.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn any_name_is_shown_and_linked_and_is_never_markup() {
    let mut desk = Desk::new();
    let hosts: Vec<(&str, &str)> = HOSTILE.iter().map(|name| (*name, *name)).collect();
    desk.create("<b>&\"..", &hosts);
    for name in HOSTILE {
        let mut host = host(name, name);
        host.labels.insert(name.to_owned(), name.to_owned());
        desk.store.put_hosts(&[host]).unwrap();
    }
    let list = desk.get("/").await.text;
    let link =
        values(&list, "href").into_iter().find(|link| link.starts_with("/rollout?")).unwrap();
    let rollout = desk.get(link).await;
    assert_eq!(rollout.status, StatusCode::OK);
    let links: Vec<&str> = values(&rollout.text, "href")
        .into_iter()
        .filter(|link| link.starts_with("/host?"))
        .collect();
    assert_eq!(links.len(), HOSTILE.len());
    let mut pages = vec![list.clone(), rollout.text.clone()];
    let named = link.strip_prefix("/rollout?name=").unwrap();
    for path in [
        "/events",
        "/calls",
        "/nothing/%3Cimg%3E",
        "/host?name=%3Cimg%3E",
        "/?%3Cimg%3E",
        &format!("/events?rollout={named}"),
        &format!("/act?rollout={named}"),
        &format!("/login?rollout={named}"),
        &format!("{link}&mark=%3Cimg%3E&site=%3Cimg%3E"),
    ] {
        pages.push(desk.get(path).await.text);
    }
    let mut named = 0;
    for link in links {
        let host = desk.get(link).await;
        assert_eq!(host.status, StatusCode::OK, "{link}");
        let is_named = |name: &&&str| {
            let name = maud::html! { (name) }.0;
            host.text.contains(&format!("<h1>Host {name}</h1>"))
        };
        named += HOSTILE.iter().filter(is_named).count();
        pages.push(host.text);
    }
    assert_eq!(named, HOSTILE.len(), "each link leads to its own host");
    for page in &pages {
        assert!(!page.contains("<img") && !page.contains("<b>") && !page.contains("<script>"));
        let linked = values(page, "href");
        assert!(linked.iter().all(|link| link.starts_with(['/', '#']) || *link == "data:,"));
        assert!(page.matches("<script").count() <= 1, "our own");
    }
}

#[tokio::test]
async fn a_failure_pauses_a_rollout_and_the_page_says_why_and_what_to_type() {
    let mut desk = Desk::new();
    desk.create("winter", &[("h1", "r1"), ("h2", "r1"), ("h3", "r2"), ("h4", "r2")]);
    let ready = desk.get("/rollout?name=winter").await.text;
    assert!(ready.contains("firmcast-fleet rollout start winter"), "{ready}");
    desk.set(RolloutState::Ready, RolloutState::Running);
    desk.run_wave(0, WaveState::Waiting);
    desk.run_wave(1, WaveState::Waiting);
    let claimed = desk.claim(2);
    assert_eq!(claimed.len(), 2);
    claimed.iter().for_each(|host| desk.fail(host));
    let page = desk.get("/rollout?name=winter").await.text;
    assert!(page.contains("<strong class=\"paused\">paused</strong>"), "{page}");
    assert!(page.contains("firmcast-fleet rollout resume winter"), "{page}");
    assert!(
        page.contains("aria-label=\"h1: failed, and not known to be safe to reset\""),
        "{page}"
    );
    let failed = desk.get("/rollout?name=winter&mark=unsafe&part=grid").await.text;
    assert_eq!(
        values(&failed, "aria-label").iter().filter(|each| each.starts_with('h')).count(),
        2
    );
    let nowhere = desk.get("/rollout?name=winter&site=nowhere&part=grid").await.text;
    assert!(nowhere.contains("0 of 4 hosts are shown"), "{nowhere}");

    let host = desk.get("/host?name=h1").await.text;
    assert!(host.contains("not safe: leave the host on"), "{host}");
    assert!(host.contains("<dt>rack</dt><dd>r1</dd>"), "{host}");
    let events = desk.get("/events?rollout=winter&before=3").await.text;
    assert!(events.contains("created") && !events.contains("ended"), "{events}");
    for nothing in ["/rollout?name=summer", "/host?name=h9", "/events?rollout=summer"] {
        assert_eq!(desk.get(nothing).await.status, StatusCode::NOT_FOUND, "{nothing}");
    }
    for bad in ["/rollout", "/host?name=h1&x=y", "/events?before=x", "/?x", "/host?name=%00"] {
        let answer = desk.get(bad).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(answer.text.contains("<h1>Not understood</h1>"), "{bad}: {}", answer.text);
    }
}

#[tokio::test]
async fn ten_thousand_hosts_are_less_than_a_megabyte() {
    let mut desk = Desk::new();
    let names: Vec<(String, String)> =
        (0..10_000).map(|n| (format!("node-{n:05}"), format!("r{}", n / 40))).collect();
    let hosts: Vec<(&str, &str)> =
        names.iter().map(|(name, rack)| (name.as_str(), rack.as_str())).collect();
    desk.create("winter", &hosts);
    let page = desk.get("/rollout?name=winter").await.text;
    assert_eq!(
        values(&page, "aria-label").iter().filter(|each| each.starts_with("node-")).count(),
        10_000
    );
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

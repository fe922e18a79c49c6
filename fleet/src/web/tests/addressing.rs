//! Who is addressed, and what each answer tells the browser.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use super::desk::Desk;

#[tokio::test]
async fn other_names_are_not_answered() {
    let desk = Desk::new();
    let asked = async |uri: &str, hosts: &[&str]| {
        let request = Request::get(uri);
        let request = hosts.iter().fold(request, |request, host| request.header("host", *host));
        desk.send(request.body(Body::empty()).unwrap()).await.status
    };
    for own in [
        "127.0.0.1:8420",
        "127.0.0.1:9000",
        "LOCALHOST",
        "localhost.:8420",
        "[::1]:8420",
        "fleet.example",
        "Fleet.Example.:443",
    ] {
        assert_eq!(asked("/", &[own]).await, StatusCode::OK, "{own}");
    }
    for other in [
        "",
        "evil.example",
        "evil.example:8420",
        "127.0.0.1.evil.example",
        "fleet.example@evil.example",
        "evil.example@fleet.example",
        "fleet.example.evil.example",
        "192.0.2.7:8420",
        "[::1",
        "localhost/",
    ] {
        assert_eq!(asked("/", &[other]).await, StatusCode::MISDIRECTED_REQUEST, "{other}");
        let path = asked("/assets/page.css", &[other]).await;
        assert_eq!(path, StatusCode::MISDIRECTED_REQUEST, "{other}");
    }
    let none = asked("/", &[]).await;
    assert_eq!(none, StatusCode::MISDIRECTED_REQUEST);
    let two = asked("/", &["localhost", "evil.example"]).await;
    assert_eq!(two, StatusCode::MISDIRECTED_REQUEST);
    let target = asked("http://evil.example/", &["localhost"]).await;
    assert_eq!(target, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn every_answer_has_a_policy() {
    let desk = Desk::new();
    for path in ["/", "/assets/page.css", "/assets/live.js", "/nothing"] {
        let answer = desk.get(path).await;
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap());
        let policy = header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(header("referrer-policy"), Some("same-origin"), "{path}");
        assert!(header("cache-control").is_some(), "{path}");
        // What the policy forbids would be missing without a word.
        assert!(!answer.text.contains("style=") && !answer.text.contains("onclick"), "{path}");
    }
}

#[tokio::test]
async fn tricks_with_paths_lead_nowhere() {
    let desk = Desk::new();
    for path in [
        "/..",
        "/assets/../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2fetc/passwd",
        "/assets/page.css/",
        "//assets/page.css",
        "/%00",
        "/%ff%fe",
        "/<script>alert(1)</script>",
        "/rollouts/../",
    ] {
        let path = path.replace('<', "%3C").replace('>', "%3E");
        let answer = desk.get(&path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text.contains("<h1>Not found</h1>"), "{path}: {}", answer.text);
        assert!(!answer.text.contains("<script>"), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn nothing_can_be_changed() {
    let desk = Desk::new();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"] {
        let request = Request::builder().method(method).uri("/").header("host", "localhost");
        let answer = desk.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
}

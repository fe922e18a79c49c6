//! What Prometheus reads.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use super::desk::Desk;

#[tokio::test]
async fn prometheus_reads_under_our_own_name_and_hears_that_the_store_is_away() {
    let mut desk = Desk::new();
    desk.create("winter", &[("h1", "r1"), ("h2", "r1")]);
    let answer = desk.get("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "firmcast_fleet_store_up 1",
        "firmcast_fleet_rollout_state{rollout=\"winter\",state=\"ready\"} 1",
        "firmcast_fleet_rollout_limit_max_hosts{rollout=\"winter\",limit=\"in-flight\",\
         scope=\"rack\",allows=\"2\",then=\"wait\"} 2",
    ] {
        assert!(answer.text.lines().any(|each| each == line), "{line}:\n{}", answer.text);
    }
    let other = Request::get("/metrics").header("host", "evil.example").body(Body::empty());
    assert_eq!(desk.send(other.unwrap()).await.status, StatusCode::MISDIRECTED_REQUEST);

    let desk = Desk::new();
    std::fs::remove_file(desk.directory.path().join(crate::store::FILE)).unwrap();
    std::fs::create_dir(desk.directory.path().join(crate::store::FILE)).unwrap();
    let away = desk.get("/metrics").await;
    assert_eq!(away.status, StatusCode::OK, "it answers for itself");
    assert!(away.text.contains("firmcast_fleet_store_up 0\n"), "{}", away.text);
}

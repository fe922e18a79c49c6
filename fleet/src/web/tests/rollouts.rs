//! The list of rollouts.

use axum::http::StatusCode;

use super::desk::Desk;

#[tokio::test]
async fn the_newest_rollout_comes_first_and_nothing_is_taken_for_markup() {
    let mut desk = Desk::new();
    assert!(desk.get("/").await.text.contains("firmcast-fleet rollout create"));
    desk.create("winter", &[("h1", "r1")]);
    desk.create("sum<b>mer\"'&", &[("h1", "r1")]);
    let answer = desk.get("/").await;
    assert_eq!(answer.status, StatusCode::OK);
    let at = |text: &str| answer.text.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("sum&lt;b&gt;mer&quot;") < at("winter"));
    assert!(at("ann &lt;script&gt;") > 0 && !answer.text.contains("<script>"));
}

#[tokio::test]
async fn a_store_that_is_away_is_told_and_comes_back_by_itself() {
    let mut desk = Desk::new();
    desk.create("winter", &[("h1", "r1")]);
    // All threads have opened the file by then, or open it where it is not.
    let (here, away) = (desk.directory.path().to_owned(), desk.directory.path().join("away"));
    std::fs::create_dir(&away).unwrap();
    let file = here.join(crate::store::FILE);
    std::fs::rename(&file, away.join("kept")).unwrap();
    std::fs::create_dir(&file).unwrap();
    let answer = desk.get("/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    assert!(answer.text.contains("<h1>The store is away</h1>"), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(away.join("kept"), &file).unwrap();
    let answer = desk.get("/").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(answer.text.contains("winter"));
}

//! Streams of events, as a browser reads them.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::desk::Desk;
use crate::model::{RolloutState, WaveState};

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads until a message of a kind is there, and returns that.
async fn read(stream: &mut BodyDataStream, kind: &str) -> String {
    let read = async {
        loop {
            let bytes = stream.next().await.unwrap().unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            if text.contains(&format!("event: {kind}\n")) {
                return text;
            }
        }
    };
    timeout(PATIENCE, read).await.unwrap()
}

fn number(message: &str) -> i64 {
    let (_, rest) = message.split_once("\nid: ").unwrap();
    rest.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_goes_on_where_it_broke_off() {
    let mut desk = Desk::new();
    desk.create("winter", &[("h1 <b>", "r1"), ("h2", "r1")]);
    // What was there when the program began is not told.
    let begun = async {
        while desk.live.last() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, begun).await.unwrap();
    let known = desk.live.last();
    let answer = desk.stream(&format!("/live?after={known}"), None).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = answer.into_body().into_data_stream();
    desk.set(RolloutState::Ready, RolloutState::Running);
    let first = read(&mut stream, "news").await;
    assert!(first.contains("\"grid-1\""), "{first}");
    desk.run_wave(0, WaveState::Waiting);
    let host = desk.claim(1).remove(0);
    let mut told = String::new();
    while !told.contains("\"cells\":[{") {
        told = read(&mut stream, "news").await;
    }
    assert!(told.contains("\"href\":\"/host?name=h1%20%3Cb%3E\""), "{told}");
    assert!(told.contains("\"class\":\"begun\""), "{told}");
    drop(stream);

    desk.fail(&host);
    let last = number(&told).to_string();
    let mut again = desk.stream("/live?after=0", Some(&last)).await.into_body().into_data_stream();
    let missed = read(&mut again, "news").await;
    assert!(number(&missed) > number(&told) && missed.contains("\"class\":\"unsafe\""), "{missed}");

    let mut other = desk.stream("/live?after=99999", None).await.into_body().into_data_stream();
    read(&mut other, "reset").await;
    let bad = desk.get("/live?after=x").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}

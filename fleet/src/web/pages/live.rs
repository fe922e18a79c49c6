//! What happens, as an answer that does not end (WHATWG HTML, "Server-sent events").

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::model::EventId;
use crate::web::limits::{RECONNECT_MS, RECONNECT_STEPS, SILENCE_MAX};
use crate::web::live::{Listener, Message, sent};
use crate::web::query::Asked;
use crate::web::site::Site;
use crate::web::trouble::Trouble;

/// What a page knows already.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Known {
    /// The last event that was told before the page was made.
    #[serde(default)]
    after: EventId,
}

/// Answers with all that happens after what the browser knows. When it connects again, it says
/// itself which event was the last (`Last-Event-ID`).
pub(in crate::web) async fn page(
    State(site): State<Site>,
    Asked(known): Asked<Known>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let listener = site.live.listen(last.unwrap_or(known.after)).ok_or(Trouble::Busy)?;
    let stream = unfold(Stream::new(listener), |mut stream| async {
        let text = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), stream))
    });
    // A proxy must not gather what is told.
    let headers = [("x-accel-buffering", "no")];
    let kind = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, kind, Body::from_stream(stream)).into_response())
}

struct Stream {
    /// What is sent first.
    first: VecDeque<String>,
    listener: Listener,
}

impl Stream {
    fn new(mut listener: Listener) -> Self {
        let mut first = VecDeque::from([format!("retry: {}\n\n", reconnect_ms())]);
        match listener.missed.take() {
            Some(missed) => first.extend(missed.iter().map(|bulletin| bulletin.text.clone())),
            None => first.push_back(sent("reset", listener.last, &())),
        }
        if listener.away_since.is_some() {
            first.push_back(away(true));
        }
        Self { first, listener }
    }

    /// What comes next. None ends the stream: the browser connects again, and says what it knows.
    async fn next(&mut self) -> Option<String> {
        if let Some(text) = self.first.pop_front() {
            return Some(text);
        }
        match timeout(SILENCE_MAX, self.listener.feed.recv()).await {
            Ok(Ok(Message::News(bulletin))) => Some(bulletin.text.clone()),
            Ok(Ok(Message::Reset(last))) => Some(sent("reset", last, &())),
            Ok(Ok(Message::Away(since))) => Some(away(since.is_some())),
            // Too slow for what happens.
            Ok(Err(RecvError::Lagged(_))) => None,
            Ok(Ok(Message::End) | Err(RecvError::Closed)) => None,
            // A comment shows whether the client is still there.
            Err(_) => Some(":\n\n".to_owned()),
        }
    }
}

/// Without a number, so that the browser keeps that of the last news.
fn away(is_away: bool) -> String {
    format!("event: {}\ndata: \n\n", if is_away { "away" } else { "back" })
}

/// After how many milliseconds a browser connects again. They differ, so that not all come at once.
fn reconnect_ms() -> u32 {
    static STREAMS: AtomicU32 = AtomicU32::new(0);
    let number = STREAMS.fetch_add(1, Ordering::Relaxed);
    RECONNECT_MS + number % RECONNECT_STEPS * RECONNECT_MS / RECONNECT_STEPS
}

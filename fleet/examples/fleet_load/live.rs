//! How long an event takes from its commit to the open pages.

use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use firmcast_fleet::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::claims::middle_and_worst;
use super::fleet::Teller;

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between events: so long, and up to twice that, so that they come at all moments of whoever
/// follows the store.
const PAUSE: Duration = Duration::from_millis(150);

/// What stands in front of a bulletin's number (WHATWG HTML, "Server-sent events").
const NUMBER: &[u8] = b"id: ";

/// Opens streams of the page, and tells events one by one.
pub(crate) fn run(store: Box<dyn Store>, page: SocketAddr, streams: usize, events: usize) -> Value {
    let (tell, mut told) = teller(store);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (heard, mut hearing) = unbounded_channel();
        for _ in 0..streams {
            let stream = listen(page).await;
            tokio::spawn(follow(stream, heard.clone()));
        }
        // What is told at first is no news.
        while timeout(2 * PAUSE, hearing.recv()).await.is_ok() {}
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for number in 0..events {
            sleep(PAUSE + PAUSE * (number as u32 * 37 % 100) / 100).await;
            tell.send(()).unwrap();
            let told = told.recv().await.unwrap();
            let times = hear(&mut hearing, streams).await;
            // The page may be faster than the answer to who told it.
            let since = |heard: &Instant| heard.saturating_duration_since(told);
            first.push(times.iter().map(since).min().unwrap());
            last.push(times.iter().map(since).max().unwrap());
        }
        json!({
            "first_ms": middle_and_worst(first.iter()),
            "last_ms": middle_and_worst(last.iter()),
        })
    })
}

/// A thread that tells an event when it is asked to, and says when that was done: the store blocks.
fn teller(store: Box<dyn Store>) -> (Sender<()>, UnboundedReceiver<Instant>) {
    let (tell, asked) = channel();
    let (done, told) = unbounded_channel();
    std::thread::spawn(move || {
        let mut teller = Teller::new(store);
        for () in asked {
            teller.tell();
            done.send(Instant::now()).unwrap();
        }
    });
    (tell, told)
}

async fn listen(page: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(page).await.unwrap();
    let request = format!("GET /live?after=0 HTTP/1.1\r\nHost: {page}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Says when news come.
async fn follow(mut stream: TcpStream, heard: UnboundedSender<Instant>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        let is_news = bytes[..length].windows(NUMBER.len()).any(|window| window == NUMBER);
        if is_news && heard.send(Instant::now()).is_err() {
            return;
        }
    }
}

/// Waits until each stream has told of one event.
async fn hear(hearing: &mut UnboundedReceiver<Instant>, streams: usize) -> Vec<Instant> {
    let mut times = Vec::with_capacity(streams);
    while times.len() < streams {
        times.push(timeout(PATIENCE, hearing.recv()).await.expect("an event is missing").unwrap());
    }
    times
}

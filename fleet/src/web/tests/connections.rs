//! Connections over real sockets: clients that are slow, too long, or still there at the end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::desk::Desk;
use crate::web::limits::{HEAD_BYTES_MAX, HEADERS_MAX, Patience};
use crate::web::serve;

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    desk: Desk,
}

impl Server {
    async fn start(patience: Patience) -> Self {
        let desk = Desk::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, desk.pages.clone(), patience, stopped));
        Self { address, stop, task, desk }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What comes for `bytes` until the server closes.
    async fn answer(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close before all is sent.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn heads_have_limits() {
    let server = Server::start(Patience::default()).await;
    let head = |fields: &str| {
        format!("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n")
    };
    let plain = server.answer(head("").as_bytes()).await;
    assert!(plain.starts_with("HTTP/1.1 200 "), "{plain}");
    let long = format!("x: {}\r\n", "y".repeat(HEAD_BYTES_MAX));
    let long = server.answer(head(&long).as_bytes()).await;
    assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
    let many = "x: y\r\n".repeat(HEADERS_MAX);
    let many = server.answer(head(&many).as_bytes()).await;
    assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
    let noise = server.answer(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert!(noise.is_empty() || noise.starts_with("HTTP/1.1 400 "), "{noise}");
}

#[tokio::test]
async fn who_does_not_finish_a_head_or_asks_nothing_more_is_dropped() {
    let patience = Patience { head: Duration::from_millis(50), ..Patience::default() };
    let server = Server::start(patience).await;
    let slow = server.answer(b"GET / HTTP/1.1\r\nhost: loc").await;
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408 "), "{slow}");
    let idle = server.answer(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");
}

#[tokio::test]
async fn who_does_not_finish_a_body_is_told_so_and_dropped() {
    let patience = Patience { request: Duration::from_millis(50), ..Patience::default() };
    let server = Server::start(patience).await;
    let kind = "content-type: application/x-www-form-urlencoded";
    let head = format!("POST /login HTTP/1.1\r\nhost: localhost\r\n{kind}\r\n");
    let slow = format!("{head}content-length: 20\r\n\r\nname=");
    let slow = server.answer(slow.as_bytes()).await;
    assert!(slow.starts_with("HTTP/1.1 503 ") && slow.contains("came too slowly"), "{slow}");
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_dropped() {
    let patience = Patience { write: Duration::from_millis(50), ..Patience::default() };
    let mut server = Server::start(patience).await;
    let names: Vec<String> = (0..5_000).map(|number| format!("host-{number:0400}")).collect();
    let hosts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "r1")).collect();
    server.desk.create("winter", &hosts);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /rollout?name=winter HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    // A connection that the server gave up refuses what comes later.
    while stream.write_all(b"\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn being_told_to_stop_ends_idle_connections_at_once() {
    let server = Server::start(Patience::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 9];
    idle.read_exact(&mut first).await.unwrap();
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(60), server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

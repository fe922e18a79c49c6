//! Somebody who is told of events: an HTTP server on loopback that fails in all ways.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as Door, Sender as Key, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a test waits for a request on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

/// What the next request meets; after the last one all is well.
pub(crate) enum Answer {
    Status(u16),
    /// Goes away without an answer.
    Close,
    /// Never answers.
    Hang,
    /// Answers well once the key is gone.
    After(Door<()>),
    /// Answers well, with a body without end.
    Endless,
}

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    script: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    pub(crate) fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let receiver = Self { url, script, requests: Arc::default() };
        let this = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream.unwrap()));
            }
        });
        receiver
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The identities of all messages that came, in their order.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.id().to_owned()).collect()
    }

    /// Waits until so many requests came.
    #[track_caller]
    pub(crate) fn await_requests(&self, count: usize) {
        let begun = Instant::now();
        while self.requests().len() < count {
            assert!(begun.elapsed() < PATIENCE, "{count} did not come: {:?}", self.ids());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader) {
            // What comes is recorded before it is answered.
            self.requests.lock().unwrap().push(request);
            let answer = self.script.lock().unwrap().pop_front().unwrap_or(Answer::Status(204));
            let stream = reader.get_mut();
            let answered = match answer {
                Answer::Status(status) => answer_with(stream, status),
                Answer::After(door) => {
                    let _ = door.recv();
                    answer_with(stream, 204)
                }
                Answer::Endless => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                    while stream.write_all(&[b'x'; 4096]).is_ok() {}
                    return;
                }
                Answer::Close => return,
                Answer::Hang => {
                    // Until the other side gives up.
                    let _ = stream.read(&mut [0]);
                    return;
                }
            };
            if answered.is_err() {
                return;
            }
        }
    }
}

/// An answer that waits for its key.
pub(crate) fn held() -> (Answer, Key<()>) {
    let (key, door) = channel();
    (Answer::After(door), key)
}

fn answer_with(stream: &mut impl Write, status: u16) -> std::io::Result<()> {
    // A redirect leads to a place that would take everything.
    let place = "location: /elsewhere\r\n";
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{place}\r\n")
}

/// Reads a request; nothing when the other side is gone.
pub(crate) fn read(reader: &mut BufReader<impl Read>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert!(line.starts_with("POST /hook HTTP/1.1"), "{line}");
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers["content-length"].parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { headers, body })
}

//! Connections: how many, how long they may take, how all of them end.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;
use tower::ServiceExt as _;

use super::guard::{Local, Peer, Within};
use super::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEADERS_MAX, Patience};

/// Serves the pages until `stop` is ready. Then nobody is accepted any more, and those who are
/// served have a moment to go on.
pub async fn serve(
    listener: TcpListener,
    pages: Router,
    patience: Patience,
    stop: impl Future<Output = ()>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => begin(stream, permit, pages.clone(), patience, &graceful),
            // The machine has no room for another connection, or who called has gone already.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    let _ = timeout(patience.stop, graceful.shutdown()).await;
}

/// Accepts a connection when there is room for it.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

fn begin(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    pages: Router,
    patience: Patience,
    graceful: &GracefulShutdown,
) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let met = (Local(local), Peer(peer.ip()), Within(patience.request));
    // Events are small, and are not to wait for each other.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(patience.write));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            service_fn(move |request| answer(pages.clone(), request, met)),
        );
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        let _permit = permit;
        // A connection that breaks concerns its client alone.
        let _ = connection.await;
    });
}

async fn answer(
    pages: Router,
    request: Request<Incoming>,
    (local, peer, within): (Local, Peer, Within),
) -> Result<hyper::Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    let extensions = request.extensions_mut();
    extensions.insert(local);
    extensions.insert(peer);
    extensions.insert(within);
    pages.oneshot(request).await
}

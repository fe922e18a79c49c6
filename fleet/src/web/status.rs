//! Asks the service that answers dead hosts what it knows.

use std::path::Path;

use firmcast_manager::rescue::Snapshot;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::limits::{STATUS_BYTES_MAX, STATUS_TIME};

/// Asks at the service's socket. What goes wrong is said in words, with what to do.
pub(super) async fn ask(socket: &Path) -> Result<Snapshot, String> {
    let read = async {
        let stream = UnixStream::connect(socket).await?;
        let mut answer = Vec::new();
        stream.take(STATUS_BYTES_MAX + 1).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let at = socket.display();
    let answer = match timeout(STATUS_TIME, read).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Err(format!(
                "The service at {at} cannot be asked: {error}. See that firmcast serve runs, and \
                 that this page's user may reach its socket."
            ));
        }
        Err(_) => {
            return Err(format!(
                "The service at {at} did not answer within {} s.",
                STATUS_TIME.as_secs()
            ));
        }
    };
    if answer.len() as u64 > STATUS_BYTES_MAX {
        return Err(format!("The service at {at} says more than is read; use firmcast status."));
    }
    serde_json::from_slice(&answer).map_err(|error| {
        format!("The service at {at} is of another version: {error}. Update both together.")
    })
}

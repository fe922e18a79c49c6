//! What a course wants done with the sessions of its hosts, by whoever has the endpoint.

use std::collections::VecDeque;
use std::net::SocketAddr;

use firmcast::session::{Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::wire::command::Command;

/// Something to do with the session of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Errand {
    /// Hosts with this key may call.
    Allow(PeerKey),
    /// Call the host, also when there is a session with it.
    Call(PeerKey, SocketAddr),
    /// Call the host unless there is a session with it.
    CallOnce(PeerKey, SocketAddr),
    /// Say this to the host.
    Say(PeerKey, Command),
    /// Nobody is there any more.
    Forget(PeerKey),
}

/// Errands in the order in which they are to be run.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<Errand>);

impl Outbox {
    pub(super) fn allow(&mut self, key: PeerKey) {
        self.0.push_back(Errand::Allow(key));
    }

    pub(super) fn call(&mut self, key: PeerKey, address: SocketAddr) {
        self.0.push_back(Errand::Call(key, address));
    }

    pub(super) fn call_once(&mut self, key: PeerKey, address: SocketAddr) {
        self.0.push_back(Errand::CallOnce(key, address));
    }

    pub(super) fn say(&mut self, key: PeerKey, command: Command) {
        self.0.push_back(Errand::Say(key, command));
    }

    pub(super) fn forget(&mut self, key: PeerKey) {
        self.0.push_back(Errand::Forget(key));
    }

    /// Runs every errand.
    pub(super) fn run(&mut self, now: Time, endpoint: &mut Endpoint) {
        for errand in self.0.drain(..) {
            match errand {
                Errand::Allow(key) => endpoint.allow(key),
                Errand::Call(key, address) => endpoint.connect(now, key, address),
                Errand::CallOnce(key, address) if !endpoint.is_connected(&key) => {
                    endpoint.connect(now, key, address);
                }
                Errand::CallOnce(..) => {}
                Errand::Say(key, command) => {
                    let command = command.for_version(endpoint.spoken(&key));
                    endpoint.send(now, &key, &command.emit());
                }
                Errand::Forget(key) => endpoint.disconnect(&key),
            }
        }
    }
}

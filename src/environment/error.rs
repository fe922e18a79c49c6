//! Why the environment cannot do its work.

use std::io;

use crate::handover::HandoverError;
use crate::keys::KeyError;
use crate::net::NetError;
use crate::platform::PlatformError;

/// Why the recovery environment cannot do its work. The flash is untouched.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Typed on a machine that runs its operating system, or started in a container.
    #[error(
        "this is no initramfs, and the recovery environment may write the flash and resets the \
        machine: nothing was done. To update this machine, run firmcast update on the manager"
    )]
    NotInitramfs,
    /// Neither a handoff nor a provision tells this host what to do.
    #[error("what was handed over to this environment cannot be used")]
    Handover(#[from] HandoverError),
    /// A key in the handoff or provision is damaged.
    #[error(
        "a key in the handoff or provision cannot be used; check the keys with `firmcastd check`, \
        then write the rescue archive again"
    )]
    Key(#[source] KeyError),
    /// Mounts, modules, network.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The socket.
    #[error("the UDP socket cannot be used; check that no other program listens on its port")]
    Net(#[source] NetError),
    /// The event loop.
    #[error("cannot wait for datagrams")]
    Wait(#[source] io::Error),
    /// The random source.
    #[error("the kernel gives no random bytes; switch this machine off and on again")]
    Random(#[source] rand_core::Error),
    /// The last step.
    #[error("the kernel refuses to end this boot; switch this machine off and on again")]
    End(#[source] nix::Error),
}

impl EnvironmentError {
    /// Returns whether only a person can change it: the next boot ends the same way.
    pub(super) fn needs_a_person(&self) -> bool {
        matches!(self, Self::Handover(_) | Self::Key(_))
    }
}

//! firmcast.
pub mod agent;
pub mod dmi;
pub mod flash;
pub mod image;
pub mod kexec;
pub mod keys;
pub mod mtd;
pub mod net;
pub mod reason;
pub mod recovery;
pub mod session;
pub mod time;
pub mod transfer;
pub mod wire;

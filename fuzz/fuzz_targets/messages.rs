//! Any message or datagram: refused, or written back byte for byte. A message inside a session may
//! be longer, and its codes newer, than this version knows: what is written back is read again.

#![no_main]

use firmcast::wire::answer::Answer;
use firmcast::wire::broadcast::{FragmentStatus, TransferParameters};
use firmcast::wire::command::Command;
use firmcast::wire::datagram::{
    CookieReply, DiscoveryAnswer, DiscoveryRequest, Initiation, Response, Transport,
};
use libfuzzer_sys::fuzz_target;

macro_rules! comes_back {
    ($bytes:ident: $($kind:ident),*) => {
        $(if let Ok(message) = $kind::parse($bytes) {
            assert_eq!(message.emit(), $bytes);
        })*
    };
}

fuzz_target!(|bytes: &[u8]| {
    comes_back!(bytes: Initiation, Response, Transport, TransferParameters);
    comes_back!(bytes: DiscoveryRequest, DiscoveryAnswer, CookieReply);
    if let Ok(message) = Command::parse(bytes) {
        assert!(bytes.starts_with(&message.emit()));
    }
    if let Ok(message) = FragmentStatus::parse(bytes) {
        assert!(bytes.starts_with(&message.emit()));
    }
    if let Ok(message) = Answer::parse(bytes) {
        assert!(Answer::parse(&message.emit()).is_ok());
    }
});

//! Any message or datagram: refused, or written back byte for byte.

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
    comes_back!(bytes: Command, Answer, Initiation, Response, Transport);
    comes_back!(bytes: DiscoveryRequest, DiscoveryAnswer, CookieReply);
    comes_back!(bytes: FragmentStatus, TransferParameters);
});

//! At which addresses this machine hears a UDP port: the kernel's lists `/proc/net/udp` and
//! `/proc/net/udp6` (proc_net(5)).

use std::net::IpAddr;

/// Returns the addresses of sockets of `port` in `list` that hear everybody.
pub fn addresses(list: &str, port: u16) -> impl Iterator<Item = IpAddr> {
    list.lines().filter_map(move |line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (own, peer) = (columns.next()?, columns.next()?);
        let (address, own_port) = own.split_once(':')?;
        let is_ours = u16::from_str_radix(own_port, 16) == Ok(port);
        let has_peer = peer.bytes().any(|byte| !matches!(byte, b'0' | b':'));
        if is_ours && !has_peer { parse(address) } else { None }
    })
}

/// Parses an address that the kernel shows as words of 32 bits, each in the order of the machine.
fn parse(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(8 * at..8 * at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match text.len() {
        8 => Some(word(0)?.into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(bytes.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::net::UdpSocket;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_running_kernel_says_what_is_bound() {
        for (file, at) in [("/proc/net/udp", "127.0.0.9:0"), ("/proc/net/udp6", "[::1]:0")] {
            let Ok(socket) = UdpSocket::bind(at) else {
                eprintln!("skipped: this machine has no {at}");
                continue;
            };
            let address = socket.local_addr().unwrap();
            let list = || fs::read_to_string(file).unwrap();
            let found: Vec<_> = addresses(&list(), address.port()).collect();
            assert_eq!(found, [address.ip()]);
            // With a peer it hears nobody else.
            socket.connect(address).unwrap();
            assert_eq!(addresses(&list(), address.port()).count(), 0);
        }
    }

    proptest! {
        #[test]
        fn any_list_ends(text in any::<String>(), address in "[0-9A-Fé]{0,34}") {
            addresses(&text, 1).count();
            let line = format!("1: {address}:0001 00000000:0000");
            prop_assert!(addresses(&line, 1).count() <= 1);
        }
    }
}

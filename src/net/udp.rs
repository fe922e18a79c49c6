//! The one UDP socket that agent, recovery and manager each have.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use super::{NetError, syscall};

/// How the socket is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// The address and port to listen on. `[::]` takes IPv4 too.
    pub listen: SocketAddr,
    /// Receive buffer in bytes; the kernel's default when none. Above `net.core.rmem_max` only for
    /// root.
    pub receive_buffer_bytes: Option<usize>,
    /// Send buffer in bytes; the kernel's default when none.
    pub send_buffer_bytes: Option<usize>,
    /// Only through this interface.
    pub interface: Option<String>,
}

impl UdpOptions {
    /// Returns a socket at `listen` with the kernel's defaults.
    pub fn at(listen: SocketAddr) -> Self {
        UdpOptions { listen, receive_buffer_bytes: None, send_buffer_bytes: None, interface: None }
    }
}

/// Opens the socket: non-blocking, allowed to broadcast, and bound.
///
/// # Errors
/// [`NetError::Socket`] that names the step.
pub fn open(options: &UdpOptions) -> Result<UdpSocket, NetError> {
    let failed = |action| move |source| NetError::Socket { action, source };
    let domain = Domain::for_address(options.listen);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
        .map_err(failed("open a UDP socket"))?;
    if options.listen.is_ipv6() {
        let only_v6 = options.listen.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        socket.set_only_v6(only_v6).map_err(failed("let the UDP socket take IPv4 too"))?;
    }
    if let Some(interface) = &options.interface {
        let bound = socket.bind_device(Some(interface.as_bytes()));
        bound
            .map_err(failed("bind the UDP socket to its interface; check the interface's name"))?;
    }
    prepare(&socket, options).map_err(failed("set up the UDP socket"))?;
    socket
        .bind(&options.listen.into())
        .map_err(failed("bind the UDP socket; another program may have its port"))?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn prepare(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_broadcast(true)?;
    if let Some(bytes) = options.receive_buffer_bytes {
        grow_receive_buffer(socket, bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(())
}

/// Root may exceed `net.core.rmem_max`; others get as much as it allows.
fn grow_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let forced =
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &bytes);
    match forced {
        Ok(()) => Ok(()),
        Err(_) => socket.set_recv_buffer_size(bytes),
    }
}

/// Gives a socket that is open already another receive buffer, as recovery does before a transfer.
///
/// # Errors
/// [`NetError::Socket`].
pub fn set_receive_buffer(socket: &UdpSocket, bytes: usize) -> Result<(), NetError> {
    let action = "enlarge the receive buffer";
    with_socket(socket, |socket| grow_receive_buffer(socket, bytes))
        .map_err(|source| NetError::Socket { action, source })
}

/// Listens to a multicast group too, on the interface with address or index as given (`None`: the
/// one that the routing table chooses; for IPv6 the index 0).
///
/// # Errors
/// [`NetError::Socket`].
pub fn join_group(
    socket: &UdpSocket,
    group: IpAddr,
    interface_v4: Option<Ipv4Addr>,
    interface_index_v6: Option<u32>,
) -> Result<(), NetError> {
    let joined = match group {
        IpAddr::V4(group) => {
            socket.join_multicast_v4(&group, &interface_v4.unwrap_or(Ipv4Addr::UNSPECIFIED))
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, interface_index_v6.unwrap_or(0)),
    };
    joined.map_err(|source| NetError::Socket { action: "join the multicast group", source })
}

/// Says through which interface multicast is sent, and how many routers it may pass.
///
/// # Errors
/// [`NetError::Socket`].
pub fn set_multicast_out(
    socket: &UdpSocket,
    interface_v4: Ipv4Addr,
    ttl: u32,
) -> Result<(), NetError> {
    let set = |socket: &Socket| {
        socket.set_multicast_if_v4(&interface_v4)?;
        socket.set_multicast_ttl_v4(ttl)
    };
    with_socket(socket, set).map_err(|source| NetError::Socket {
        action: "set up sending to a multicast group",
        source,
    })
}

fn with_socket<T>(
    socket: &UdpSocket,
    action: impl FnOnce(&Socket) -> io::Result<T>,
) -> io::Result<T> {
    // A second descriptor of the same socket: options belong to the socket.
    let twin = Socket::from(socket.as_fd().try_clone_to_owned()?);
    action(&twin)
}

/// Returns the socket that systemd hands over (sd_listen_fds(3)), when it does.
///
/// # Errors
/// [`NetError::Inherited`] when it is not one bound UDP socket.
pub fn inherit() -> Result<Option<UdpSocket>, NetError> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(count) => return Err(NetError::Inherited { got: format!("{count} sockets") }),
    }
    let Some(descriptor) = syscall::take_listen_fd() else {
        return Err(NetError::Inherited { got: "a closed descriptor".into() });
    };
    adopt(Socket::from(descriptor)).map(Some)
}

fn adopt(socket: Socket) -> Result<UdpSocket, NetError> {
    let not_udp = |got: &str| NetError::Inherited { got: got.to_owned() };
    let kind = socket.r#type().map_err(|_| not_udp("something that is no socket"))?;
    let is_inet = matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6));
    if kind != Type::DGRAM || !is_inet {
        return Err(not_udp("a socket of another kind"));
    }
    let port = socket.local_addr().ok().and_then(|address| address.as_socket()).map(|at| at.port());
    if port.is_none_or(|port| port == 0) {
        return Err(not_udp("an unbound UDP socket"));
    }
    let prepared = socket
        .set_nonblocking(true)
        .and_then(|()| socket.set_broadcast(true))
        .and_then(|()| socket.set_cloexec(true));
    prepared.map_err(|source| NetError::Socket { action: "set up the UDP socket", source })?;
    Ok(UdpSocket::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn loopback() -> UdpOptions {
        UdpOptions::at("127.0.0.1:0".parse().unwrap())
    }

    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2048];
        for _ in 0..200 {
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) => return buffer[..length].to_vec(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("nothing received");
    }

    #[test]
    fn a_group_is_heard_after_joining() {
        let receiver = open(&UdpOptions::at("0.0.0.0:0".parse().unwrap())).unwrap();
        let sender = open(&UdpOptions::at("0.0.0.0:0".parse().unwrap())).unwrap();
        let group: Ipv4Addr = "239.1.2.3".parse().unwrap();
        join_group(&receiver, group.into(), Some(Ipv4Addr::LOCALHOST), None).unwrap();
        set_multicast_out(&sender, Ipv4Addr::LOCALHOST, 1).unwrap();
        let port = receiver.local_addr().unwrap().port();
        sender.send_to(b"hello", (group, port).into()).unwrap();
        assert_eq!(receive(&receiver), b"hello");
    }

    #[test]
    fn a_taken_port_and_a_wrong_interface_are_told() {
        let first = open(&loopback()).unwrap();
        let taken = UdpOptions::at(first.local_addr().unwrap());
        let error = open(&taken).unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
        let wrong = UdpOptions { interface: Some("nosuch0".into()), ..loopback() };
        assert!(open(&wrong).unwrap_err().to_string().contains("interface"));
    }

    #[test]
    fn adopts_only_a_bound_udp_socket() {
        let tcp = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(matches!(adopt(tcp), Err(NetError::Inherited { .. })));
        let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        assert!(matches!(adopt(unbound), Err(NetError::Inherited { .. })));
        let bound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        bound.bind(&address.into()).unwrap();
        assert!(adopt(bound).is_ok());
    }
}

//! Ports for programs that listen later, or again.

use std::mem::ManuallyDrop;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of this address that is nobody else's until the tests end: a socket that never listens is bound to it.
///
/// Connections to it are refused. A program that sets `SO_REUSEADDR`, as `ssh`, `sshd` and tokio do, may listen on it
/// and stop as often as it likes; the kernel gives it to nobody who asks for any port, nor to an outgoing connection.
pub(crate) fn reserved(address: &str) -> u16 {
    let address: IpAddr = address.parse().unwrap();
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::new(address, 0)).unwrap();
    ManuallyDrop::new(socket).local_addr().unwrap().port()
}

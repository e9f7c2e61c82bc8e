//! A real ZooKeeper of one node, which clients reach through a network that a test can break.

use std::net::SocketAddr;

use super::Port;
use super::tcp_proxy::TcpProxy;
use super::zookeeper::{Kazoo, ZooKeeper};

pub struct Distant {
    /// The address that leads through `network`.
    pub connect: String,
    pub network: TcpProxy,
    pub server: ZooKeeper,
    _door: Port,
}

impl Distant {
    pub fn start() -> Distant {
        let mut distant = Distant::absent();
        distant.server.restart();
        distant
    }

    /// With further lines of the server's configuration.
    pub fn with(lines: &str) -> Distant {
        Distant::before(ZooKeeper::with(lines))
    }

    /// The network is there, and nobody at its other end.
    pub fn absent() -> Distant {
        Distant::before(ZooKeeper::absent())
    }

    fn before(server: ZooKeeper) -> Distant {
        let door = Port::free();
        let at: SocketAddr = server.connect.parse().unwrap();
        let network = TcpProxy::start(vec![(([127, 0, 0, 1], door.number).into(), at)]);
        Distant { connect: door.address(), network, server, _door: door }
    }

    /// A foreign client of the server itself.
    pub fn client(&self) -> Kazoo {
        self.server.client()
    }
}

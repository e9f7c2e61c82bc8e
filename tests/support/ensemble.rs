//! A real ZooKeeper of three nodes, which clients reach through a network that a test can break.

use std::net::SocketAddr;

use super::Port;
use super::nodes::{Machine, Nodes, list};
use super::tcp_proxy::TcpProxy;
use super::zookeeper::Kazoo;

pub use super::nodes::NODES;

pub struct Ensemble {
    /// Addresses that lead through `network`.
    pub connect: String,
    pub network: TcpProxy,
    pub nodes: Nodes,
    _doors: Vec<Port>,
}

impl Ensemble {
    pub fn start() -> Ensemble {
        let nodes = Nodes::start(Machine::SMALL);
        let doors: Vec<_> = (0..NODES).map(|_| Port::free()).collect();
        let address = |port: &Port| SocketAddr::from(([127, 0, 0, 1], port.number));
        let pairs = doors.iter().zip(nodes.ports()).map(|(door, node)| (address(door), address(node)));
        let network = TcpProxy::start(pairs.collect());
        let ensemble = Ensemble { connect: list(doors.iter()), network, nodes, _doors: doors };
        ensemble.nodes.until_served();
        ensemble
    }

    /// A foreign client of the nodes themselves, with the session timeout in seconds.
    pub fn client(&self, timeout: u32) -> Kazoo {
        Kazoo::connect_with(&self.nodes.direct(), timeout)
    }
}

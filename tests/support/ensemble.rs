//! A real ZooKeeper of three nodes, which clients reach through a network that a test can break.

use std::fs;
use std::net::SocketAddr;
use std::process::Child;
use std::time::Duration;

use tempfile::TempDir;

use super::tcp_proxy::TcpProxy;
use super::zookeeper::{Kazoo, ask};
use super::{Port, eventually, remora, zookeeper};

pub const NODES: usize = 3;
/// From the start of a node until it serves, on a busy machine.
const SERVES: Duration = Duration::from_secs(30);

pub struct Ensemble {
    /// Addresses that lead through `network`.
    pub connect: String,
    pub network: TcpProxy,
    nodes: Vec<Node>,
    _doors: Vec<Port>,
}

struct Node {
    dir: TempDir,
    client: Port,
    quorum: Port,
    election: Port,
    child: Option<Child>,
    paused: bool,
}

impl Ensemble {
    pub fn start() -> Ensemble {
        let node = |_| Node {
            dir: tempfile::tempdir().unwrap(),
            client: Port::free(),
            quorum: Port::free(),
            election: Port::free(),
            child: None,
            paused: false,
        };
        let nodes: Vec<_> = (0..NODES).map(node).collect();
        let doors: Vec<_> = (0..NODES).map(|_| Port::free()).collect();
        let address = |port: &Port| SocketAddr::from(([127, 0, 0, 1], port.number));
        let pairs = doors.iter().zip(&nodes).map(|(door, node)| (address(door), address(&node.client)));
        let mut ensemble = Ensemble {
            connect: list(doors.iter()),
            network: TcpProxy::start(pairs.collect()),
            nodes,
            _doors: doors,
        };
        (0..NODES).for_each(|n| ensemble.launch(n));
        ensemble.until_served();
        ensemble
    }

    /// The addresses of the nodes themselves.
    pub fn direct(&self) -> String {
        list(self.nodes.iter().map(|node| &node.client))
    }

    /// A foreign client of the nodes themselves, with the session timeout in seconds.
    pub fn client(&self, timeout: u32) -> Kazoo {
        Kazoo::connect_with(&self.direct(), timeout)
    }

    fn launch(&mut self, n: usize) {
        let servers: String = (1..)
            .zip(&self.nodes)
            .map(|(id, node)| {
                format!("server.{id}=127.0.0.1:{}:{}\n", node.quorum.number, node.election.number)
            })
            .collect();
        let node = &mut self.nodes[n];
        fs::create_dir_all(node.dir.path().join("data")).unwrap();
        fs::write(node.dir.path().join("data/myid"), (n + 1).to_string()).unwrap();
        node.child = Some(zookeeper::launch(node.dir.path(), node.client.number, &servers));
    }

    /// As by `kill -9`: what is on the disk stays.
    pub fn kill(&mut self, n: usize) {
        self.nodes[n].kill();
    }

    /// Stops a node's clock.
    pub fn pause(&mut self, n: usize) {
        self.nodes[n].signal("STOP");
        self.nodes[n].paused = true;
    }

    /// Starts what was killed and lets run what was paused; nothing is waited for.
    pub fn restore(&mut self) {
        for n in 0..NODES {
            if std::mem::take(&mut self.nodes[n].paused) {
                self.nodes[n].signal("CONT");
            }
            if self.nodes[n].child.is_none() {
                self.launch(n);
            }
        }
    }

    /// Forgets every node and session, as wrong disks would; `restore` starts it empty.
    pub fn wipe(&mut self) {
        for node in &mut self.nodes {
            node.kill();
            let _ = fs::remove_dir_all(node.dir.path().join("data"));
        }
    }

    /// Whether this node answers requests now.
    pub fn serves(&self, n: usize) -> bool {
        self.ask(n, "srvr").contains("Mode:")
    }

    pub fn all_serve(&self) -> bool {
        (0..NODES).all(|n| self.serves(n))
    }

    pub fn until_served(&self) {
        eventually("every node of the ensemble serves", SERVES, || self.all_serve());
    }

    /// The node that leads; not to be asked while a node is paused.
    pub fn leader(&self) -> Option<usize> {
        (0..NODES).find(|n| self.ask(*n, "srvr").contains("Mode: leader"))
    }

    /// The node that a client with this session (`0x…`) is connected to.
    pub fn serving(&self, session: &str) -> Option<usize> {
        (0..NODES).find(|n| self.ask(*n, "cons").contains(session))
    }

    /// True while a node keeps this session (`0x…`).
    pub fn knows_session(&self, session: &str) -> bool {
        (0..NODES).any(|n| self.ask(n, "dump").contains(session))
    }

    fn ask(&self, n: usize, word: &str) -> String {
        ask(&self.nodes[n].client.address(), word)
    }
}

impl Node {
    fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            remora::signal(name, &child.id().to_string());
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.paused = false;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn list<'p>(ports: impl Iterator<Item = &'p Port>) -> String {
    ports.map(Port::address).collect::<Vec<_>>().join(",")
}

//! Servers of ZooKeeper as processes, alone or three of them as one ensemble.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::outside::{Port, eventually, signal};

pub const NODES: usize = 3;
/// From the start of a node until it serves, on a busy machine.
const SERVES: Duration = Duration::from_secs(90);
/// Which servers the tests run against: `one-shot`, ZooKeeper's own without persistent watches, or a
/// folder with the jars of another release; left out, the one that is installed.
const SERVERS: &str = "REMORA_TEST_ZOOKEEPER";
/// With this watch manager a server refuses persistent watches.
const ONE_SHOT: &str = "watchManagerName=org.apache.zookeeper.server.watch.WatchManagerOptimized\n";
/// The last three are what TLS needs and the first doesn't name.
const CLASS_PATH: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar:\
     /usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar:\
     /usr/share/java/netty-transport-native-unix-common.jar";

/// What a server gets.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    pub heap_mb: u32,
    /// A session lasts 2 to 20 of them, a leader that hangs 5.
    pub tick_ms: u32,
}

impl Machine {
    /// Starts and notices soon.
    pub const SMALL: Machine = Machine { heap_mb: 256, tick_ms: 500 };
}

/// Three nodes on directories and ports that survive `kill` and `restore`.
pub struct Nodes {
    machine: Machine,
    nodes: Vec<Node>,
}

struct Node {
    dir: TempDir,
    client: Port,
    quorum: Port,
    election: Port,
    child: Option<Child>,
    paused: bool,
}

impl Nodes {
    /// Launches all; `until_served` waits for them.
    pub fn start(machine: Machine) -> Nodes {
        let node = |_| Node {
            dir: tempfile::tempdir().unwrap(),
            client: Port::free(),
            quorum: Port::free(),
            election: Port::free(),
            child: None,
            paused: false,
        };
        let mut nodes = Nodes { machine, nodes: (0..NODES).map(node).collect() };
        (0..NODES).for_each(|n| nodes.launch(n));
        nodes
    }

    /// The ports of the nodes themselves.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.nodes.iter().map(|node| &node.client)
    }

    /// The addresses of the nodes themselves.
    pub fn direct(&self) -> String {
        list(self.ports())
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
        node.child = Some(launch(node.dir.path(), node.client.number, self.machine, &servers));
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

    /// Of the nodes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.child.as_ref()).map(Child::id).collect()
    }

    pub fn ask(&self, n: usize, word: &str) -> String {
        ask(&self.nodes[n].client.address(), word)
    }
}

impl Node {
    fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            signal(name, &child.id().to_string());
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

pub fn list<'p>(ports: impl Iterator<Item = &'p Port>) -> String {
    ports.map(Port::address).collect::<Vec<_>>().join(",")
}

/// Starts a server on `dir`; `more` are further lines of its configuration.
pub fn launch(dir: &Path, port: u16, machine: Machine, more: &str) -> Child {
    let servers = std::env::var(SERVERS).unwrap_or_default();
    let (class_path, watches) = match servers.as_str() {
        "" => (CLASS_PATH.to_owned(), ""),
        "one-shot" => (CLASS_PATH.to_owned(), ONE_SHOT),
        jars => (format!("{jars}:{jars}/*"), ""),
    };
    let config = format!(
        "tickTime={tick}\ninitLimit=10\nsyncLimit=5\ndataDir={dir}/data\n\
         clientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\nmaxClientCnxns=0\n{watches}{more}",
        tick = machine.tick_ms,
        dir = dir.display(),
    );
    fs::create_dir_all(dir.join("data")).unwrap();
    fs::write(dir.join("zoo.cfg"), config).unwrap();
    let log = File::options().create(true).append(true).open(dir.join("out.log")).unwrap();
    Command::new("java")
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        // a process that is killed loses nothing, and a busy disk would hold every answer up for seconds
        .arg("-Dzookeeper.forceSync=no")
        .arg(format!("-Xmx{}m", machine.heap_mb))
        .args(["-cp", &class_path, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
        .arg(dir.join("zoo.cfg"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("java is not installed: run tests/setup")
}

/// What the server at `address` answers to a four-letter word; empty where nobody answers.
pub fn ask(address: &str, word: &str) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = stream.write_all(word.as_bytes());
        let _ = stream.read_to_string(&mut text);
    }
    text
}

//! The program under test, with a configuration of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::distant::Distant;
use super::ensemble::Ensemble;
use super::http::{self, Answer, Conn};
pub use super::outside::signal;
use super::zookeeper::ZooKeeper;
use super::{Port, eventually};

pub const BINARY: &str = env!("CARGO_BIN_EXE_remora");

/// What a test wants, before the program starts.
pub struct Setup {
    dir: TempDir,
    listen: Port,
    admin: Port,
    registry: String,
    layout: String,
    root: String,
    more: String,
    /// What raw Yar calls mean on two listeners of their own.
    service: Option<(String, Port)>,
    env: Vec<(String, String)>,
    wait: bool,
    log: Log,
}

/// What becomes of what the program logs.
#[derive(Clone, Copy, PartialEq)]
enum Log {
    Read,
    Unread,
    Discarded,
}

impl Setup {
    fn new(registry: impl FnOnce(&Path) -> String) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(dir.path());
        Setup {
            dir,
            listen: Port::free(),
            admin: Port::free(),
            registry,
            layout: "flat".to_owned(),
            root: "/".to_owned(),
            more: String::new(),
            service: None,
            env: Vec::new(),
            wait: true,
            log: Log::Read,
        }
    }

    pub fn layout(mut self, layout: &str, root: &str) -> Setup {
        self.layout = layout.to_owned();
        self.root = root.to_owned();
        self
    }

    /// Further top-level keys of the configuration, as YAML.
    pub fn with(mut self, yaml: &str) -> Setup {
        self.more += yaml;
        self.more += "\n";
        self
    }

    /// Two more listeners, `127.0.0.1` and unix, where raw Yar calls mean this service.
    pub fn for_service(mut self, name: &str) -> Setup {
        self.service = Some((name.to_owned(), Port::free()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Nobody reads what it logs.
    pub fn unread_log(mut self) -> Setup {
        self.log = Log::Unread;
        self
    }

    /// Whoever runs it looks at nothing that it logs.
    pub fn discards_log(mut self) -> Setup {
        self.log = Log::Discarded;
        self
    }

    /// For a program that can't be ready yet: waits for `/livez` only.
    pub fn unready(mut self) -> Setup {
        self.wait = false;
        self
    }

    /// The whole configuration, as it is written to the file.
    pub fn config(&self) -> String {
        let dir = self.dir.path().display();
        let of_service = self.service.as_ref().map(|(name, port)| {
            format!(
                ", {{ address: \"{}\", service: {name} }}, {{ address: \"unix:{dir}/service.sock\", service: {name} }}",
                port.address()
            )
        });
        format!(
            "registry:\n  {registry}\n  layout: {layout}\n  root: {root}\n\
             listen: [\"{listen}\", \"unix:{dir}/remora.sock\"{of_service}]\n\
             admin: \"{admin}\"\nworkers: 2\n{more}",
            registry = self.registry,
            layout = self.layout,
            root = self.root,
            listen = self.listen.address(),
            of_service = of_service.unwrap_or_default(),
            admin = self.admin.address(),
            more = self.more,
        )
    }

    pub fn start(self) -> Remora {
        let config = self.dir.path().join("remora.yaml");
        fs::write(&config, self.config()).unwrap();
        let mut command = Command::new(BINARY);
        unset(&mut command);
        let mut child = command
            .args(["run", "--config"])
            .arg(&config)
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(if self.log == Log::Discarded { Stdio::null() } else { Stdio::piped() })
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let reader = (self.log == Log::Read).then(|| {
            let (log, stderr) = (log.clone(), BufReader::new(child.stderr.take().unwrap()));
            std::thread::spawn(move || {
                for line in stderr.lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            })
        });
        let mut remora = Remora {
            address: self.listen.address(),
            admin: self.admin.address(),
            socket: self.dir.path().join("remora.sock"),
            service_address: self.service.as_ref().map(|(_, port)| port.address()).unwrap_or_default(),
            service_socket: self.dir.path().join("service.sock"),
            registry_file: self.dir.path().join("registry.yaml"),
            config,
            dir: self.dir,
            child,
            log,
            reader,
            _ports: (self.listen, self.admin, self.service.map(|(_, port)| port)),
        };
        let page = if self.wait { "/readyz" } else { "/livez" };
        let answers = || {
            TcpStream::connect(&remora.admin).is_ok()
                && Conn::open(&remora.admin)
                    .request("GET", page, &host(&remora.admin), b"")
                    .is_ok_and(|a| a.status == 200)
        };
        let end = Instant::now() + Duration::from_secs(20);
        while !answers() {
            if let Some(status) = remora.child.try_wait().unwrap() {
                panic!("remora ended at its start with {status}:\n{}", remora.log());
            }
            assert!(Instant::now() < end, "{page} is not 200:\n{}", remora.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        remora
    }
}

fn host(address: &str) -> [(&str, &str); 1] {
    [("Host", address)]
}

/// A running sidecar, killed when dropped.
pub struct Remora {
    /// `127.0.0.1:port` of the listener for callers.
    pub address: String,
    pub admin: String,
    /// The unix socket for callers.
    pub socket: PathBuf,
    /// Of the listeners for one service, where the test set them up.
    pub service_address: String,
    pub service_socket: PathBuf,
    pub registry_file: PathBuf,
    pub config: PathBuf,
    pub dir: TempDir,
    child: Child,
    log: Arc<Mutex<String>>,
    /// Of the log; ends when it does.
    reader: Option<JoinHandle<()>>,
    _ports: (Port, Port, Option<Port>),
}

impl Remora {
    /// On the embedded registry with these entries: a map from path to data, as YAML.
    pub fn embedded(entries: &str) -> Setup {
        Setup::new(|dir| {
            let file = dir.join("registry.yaml");
            fs::write(&file, entries).unwrap();
            format!("embedded: {{ file: {} }}", file.display())
        })
    }

    pub fn zookeeper(zk: &ZooKeeper) -> Setup {
        Remora::zookeeper_with(&zk.connect, "")
    }

    /// With further keys of `registry.zookeeper`, as inline YAML.
    pub fn zookeeper_with(connect: &str, more: &str) -> Setup {
        Setup::new(|_| format!("zookeeper: {{ connect: \"{connect}\", session_timeout: 4s, {more} }}"))
    }

    /// Through the network, in a session that outlasts a busy machine.
    pub fn distant(zk: &Distant) -> Setup {
        Remora::through(&zk.connect, "10s")
    }

    /// On the ensemble, through its network.
    pub fn ensemble(ensemble: &Ensemble) -> Setup {
        Remora::through(&ensemble.connect, "6s")
    }

    /// On these servers, in a session of this timeout.
    pub fn through(connect: &str, timeout: &str) -> Setup {
        Setup::new(|_| format!("zookeeper: {{ connect: \"{connect}\", session_timeout: {timeout} }}"))
    }

    /// With a chroot, `/…`.
    pub fn zookeeper_below(zk: &ZooKeeper, chroot: &str) -> Setup {
        Remora::zookeeper_with(&format!("{}{chroot}", zk.connect), "")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn conn(&self) -> Conn {
        Conn::open(&self.address)
    }

    pub fn get(&self, target: &str) -> Answer {
        http::get(&self.address, target)
    }

    pub fn post(&self, target: &str, body: &str) -> Answer {
        http::post_json(&self.address, target, body)
    }

    pub fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        http::call(&self.address, method, target, headers, body)
    }

    pub fn admin(&self, method: &str, target: &str) -> Answer {
        http::call(&self.admin, method, target, &host(&self.admin), b"")
    }

    /// A page of the admin port as JSON.
    pub fn page(&self, target: &str) -> Value {
        let answer = self.admin("GET", &format!("{target}?format=json"));
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signal(name, &self.pid().to_string());
    }

    /// Waits for the end; `None` where it still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> Option<i32> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // what it said last may still be in the pipe
                self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
                // By a signal: no code.
                return Some(status.code().unwrap_or(-1));
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal("TERM");
        self.wait(Duration::from_secs(15))
            .unwrap_or_else(|| panic!("still running 15 s after SIGTERM:\n{}", self.log()))
    }

    /// As by `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The time that all processors together spent on it so far.
    pub fn processor_time(&self) -> Duration {
        const TICKS_PER_SECOND: u64 = 100;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let (_, after_the_name) = stat.rsplit_once(')').unwrap();
        // utime and stime, of which the third field comes first here
        let ticks: u64 =
            after_the_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// The most memory it ever held, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:") * 1024
    }

    /// The memory it holds, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// Files and sockets it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// A number that the kernel tells of it, sizes in KiB.
    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Rewrites the embedded registry's file, as an editor would.
    pub fn edit_registry(&self, entries: &str) {
        let new = self.registry_file.with_extension("new");
        fs::write(&new, entries).unwrap();
        fs::rename(&new, &self.registry_file).unwrap();
    }

    /// Waits until a call gets this status.
    pub fn until_status(&self, target: &str, status: u16, within: Duration) {
        eventually(&format!("GET {target} is {status}"), within, || self.get(target).status == status);
    }
}

impl Drop for Remora {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("--- the last lines of remora's log");
            for line in lines.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Runs another command of the binary to its end.
pub fn remora(args: &[&str]) -> Output {
    remora_with(args, b"")
}

/// The binary, ended with code 124 where a command does not end by itself.
pub fn bounded() -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(BINARY);
    unset(&mut command);
    command
}

/// What is meant for the tests themselves is no setting of the program.
fn unset(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("REMORA_")) {
        command.env_remove(name);
    }
}

pub fn remora_with(args: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut child = bounded()
        .args(args)
        // The default registry is a file beside the caller.
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads no input may be gone already.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

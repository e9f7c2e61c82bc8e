//! A real ZooKeeper of one node, and a foreign client of it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::nodes::{Machine, ask, launch};
use super::tls::Pki;
use super::{Port, eventually};

/// A standalone server on a directory and a port that survive `kill` and `restart`.
pub struct ZooKeeper {
    pub connect: String,
    dir: TempDir,
    port: Port,
    /// Where it speaks TLS, and with which files.
    secure: Option<(Port, Pki)>,
    /// Further lines of its configuration.
    more: String,
    child: Option<Child>,
}

impl ZooKeeper {
    pub fn start() -> ZooKeeper {
        let mut zk = ZooKeeper::absent();
        zk.restart();
        zk
    }

    /// With further lines of its configuration.
    pub fn with(lines: &str) -> ZooKeeper {
        let mut zk = ZooKeeper::absent();
        zk.more = lines.to_owned();
        zk.restart();
        zk
    }

    /// Also speaks TLS, to clients with a certificate of the same CA.
    pub fn secure(pki: Pki) -> ZooKeeper {
        let mut zk = ZooKeeper::absent();
        zk.secure = Some((Port::free(), pki));
        zk.restart();
        zk
    }

    /// Where it speaks TLS.
    pub fn secure_connect(&self) -> String {
        self.secure.as_ref().expect("not secure").0.address()
    }

    /// Has an address, but nothing listens there until `restart`.
    pub fn absent() -> ZooKeeper {
        let port = Port::free();
        let dir = tempfile::tempdir().unwrap();
        ZooKeeper { connect: port.address(), dir, port, secure: None, more: String::new(), child: None }
    }

    /// Starts (again), and waits until it serves.
    pub fn restart(&mut self) {
        self.kill();
        let secure = self.secure.as_ref().map(|(port, pki)| pki.of_server(port.number)).unwrap_or_default();
        self.child = Some(launch(self.dir.path(), self.port.number, Machine::SMALL, &(secure + &self.more)));
        eventually("ZooKeeper serves", Duration::from_secs(60), || self.ask("srvr").contains("Mode:"));
    }

    /// As by `kill -9`: what is on the disk stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Accepts and stays silent until `resume`.
    pub fn pause(&self) {
        self.signal("STOP");
        let Some(child) = &self.child else { return };
        // a busy machine lets its threads run on for a while
        eventually("ZooKeeper stops", Duration::from_secs(60), || {
            fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|stat| stat.contains(") T "))
        });
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            super::remora::signal(name, &child.id().to_string());
        }
    }

    /// Forgets every node and session, as a wrong disk would.
    pub fn wipe(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(self.dir.path().join("data"));
    }

    /// A four-letter word; empty where nobody answers.
    pub fn ask(&self, word: &str) -> String {
        ask(&self.connect, word)
    }

    /// True while the server keeps this session (`0x…`).
    pub fn knows_session(&self, session: &str) -> bool {
        self.ask("dump").contains(session)
    }

    pub fn client(&self) -> Kazoo {
        Kazoo::connect(&self.connect)
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What `zk.py` calls an operation that is not answered.
const OUT_OF_TIME: &str = "OutOfTime";

/// One kazoo process; its ephemeral nodes live as long as it does.
pub struct Kazoo {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The server took an operation and did not finish it: nothing more is asked.
    stuck: bool,
}

impl Kazoo {
    pub fn connect(hosts: &str) -> Kazoo {
        Kazoo::connect_with(hosts, 10)
    }

    /// With the session timeout in seconds: a server that hangs is left sooner.
    pub fn connect_with(hosts: &str, timeout: u32) -> Kazoo {
        Kazoo::connect_within(hosts, timeout, 30)
    }

    /// And with the seconds that one operation may take while the connection stands.
    pub fn connect_within(hosts: &str, timeout: u32, limit: u32) -> Kazoo {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let venv = root.join("target/test-venv/bin/python3");
        let python = if venv.exists() { venv } else { PathBuf::from("python3") };
        let mut child = Command::new(python)
            .arg(root.join("tests/support/zk.py"))
            .arg(hosts)
            .args([timeout.to_string(), limit.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is not installed: run tests/setup");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Kazoo { child, stdin, stdout, stuck: false }
    }

    /// The answer as it is: `{"ok":true,…}` or `{"ok":false,"error":…}`.
    pub fn ask(&mut self, command: &Value) -> Value {
        if self.stuck {
            return json!({ "ok": false, "error": OUT_OF_TIME });
        }
        writeln!(self.stdin, "{command}").expect("kazoo is gone: run tests/setup");
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("kazoo answered {command} with {line:?}"));
        self.stuck = answer["error"] == OUT_OF_TIME;
        answer
    }

    /// Whether the server once did not finish an operation, although the connection to it stood.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    fn must(&mut self, command: &Value) -> Value {
        let answer = self.ask(command);
        assert_eq!(answer["ok"], json!(true), "{command}: {answer}");
        answer
    }

    /// Makes the parents too.
    pub fn create(&mut self, path: &str, data: &str) {
        self.must(&json!(["create", path, data]));
    }

    pub fn ephemeral(&mut self, path: &str, data: &str) {
        self.must(&json!(["ephemeral", path, data]));
    }

    /// Deletes what stands there and makes it as an ephemeral node of this session, in one step.
    pub fn take(&mut self, path: &str, data: &str) {
        self.must(&json!(["take", path, data]));
    }

    /// Sets the node's ACL: all for everyone, or all but to read it.
    pub fn readable(&mut self, path: &str, yes: bool) {
        self.must(&json!(["readable", path, yes]));
    }

    /// Sets the node's ACL: all for everyone, or to read it and no more.
    pub fn writable(&mut self, path: &str, yes: bool) {
        self.must(&json!(["writable", path, yes]));
    }

    pub fn set(&mut self, path: &str, data: &str) {
        self.must(&json!(["set", path, data]));
    }

    /// Creates or sets.
    pub fn put(&mut self, path: &str, data: &str) {
        self.must(&json!(["put", path, data]));
    }

    /// With all below it.
    pub fn rm(&mut self, path: &str) {
        self.must(&json!(["rm", path]));
    }

    /// `{"data","version","owner"}`, or nothing where no node is.
    pub fn get(&mut self, path: &str) -> Option<Value> {
        let answer = self.ask(&json!(["get", path]));
        (answer["ok"] == json!(true)).then_some(answer)
    }

    /// The node's data as JSON.
    pub fn data(&mut self, path: &str) -> Option<Value> {
        let answer = self.get(path)?;
        serde_json::from_str(answer["data"].as_str()?).ok()
    }

    pub fn owner(&mut self, path: &str) -> Option<String> {
        self.get(path)?["owner"].as_str().map(str::to_owned)
    }

    pub fn ls(&mut self, path: &str) -> Vec<String> {
        let answer = self.ask(&json!(["ls", path]));
        let names = answer["names"].as_array().cloned().unwrap_or_default();
        names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect()
    }

    /// Every node below `paths`, as `{path: {"data","owner","czxid",…}}`, not older than the call.
    pub fn tree(&mut self, paths: &[&str]) -> Option<Map<String, Value>> {
        let answer = self.ask(&json!(["tree", paths]));
        answer["nodes"].as_object().cloned()
    }

    /// Sets the node `count` times, evenly over `seconds`; gives the seconds that it took.
    pub fn rewrite(&mut self, path: &str, count: usize, seconds: u32) -> f64 {
        self.must(&json!(["rewrite", path, count, seconds]))["seconds"].as_f64().unwrap()
    }

    /// Many of the other commands at once; whether each one was done is not told.
    pub fn many(&mut self, commands: &[Value]) {
        self.must(&json!(["many", commands]));
    }

    /// From now on looks at the node all the time, and right after every event of it.
    pub fn observe(&mut self, path: &str) {
        self.must(&json!(["observe", path]));
    }

    /// `{"looks","events","missing"}` of the node that is observed: how often it was looked at, what
    /// was heard, and how often it was not there.
    pub fn observed(&mut self) -> Value {
        self.must(&json!(["observed"]))
    }

    pub fn session(&mut self) -> String {
        let answer = self.must(&json!(["session"]));
        answer["session"].as_str().unwrap().to_owned()
    }
}

impl Drop for Kazoo {
    fn drop(&mut self) {
        if self.stuck {
            // its session could not be closed either
            let _ = self.child.kill();
        }
        let _ = writeln!(self.stdin, "[\"close\"]");
        let _ = self.stdin.flush();
        // Reads until it has closed its session and ended.
        let mut rest = String::new();
        let _ = self.stdout.read_to_string(&mut rest);
        let _ = self.child.wait();
    }
}

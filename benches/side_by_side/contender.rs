//! The programs that are compared: how each is set up, started, measured and ended.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Remora,
    Nginx,
    Haproxy,
    Envoy,
}

/// One of them, running.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) unix: PathBuf,
    /// As it was set up.
    pub(crate) config: String,
    child: Child,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Remora, Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Remora => "remora",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        }
    }

    fn program(self) -> Option<PathBuf> {
        let path = match self {
            Self::Remora => PathBuf::from(env!("CARGO_BIN_EXE_remora")),
            Self::Nginx => "/usr/sbin/nginx".into(),
            Self::Haproxy => "/usr/sbin/haproxy".into(),
            Self::Envoy => {
                let lib = fs::read_dir("target/bench-venv/lib").ok()?.flatten().next()?.path();
                lib.join("site-packages/envoy/_bin/envoy")
            }
        };
        path.exists().then_some(path)
    }

    /// Its version, as it tells it.
    pub(crate) fn version(self) -> String {
        let flag = match self {
            Self::Nginx | Self::Haproxy => "-v",
            Self::Remora | Self::Envoy => "--version",
        };
        let told = self.program().and_then(|program| Command::new(program).arg(flag).output().ok());
        let told = told.map(|told| [told.stdout, told.stderr].concat()).unwrap_or_default();
        let told = String::from_utf8_lossy(&told);
        told.lines().find(|line| line.contains('.')).unwrap_or("unknown").trim().to_owned()
    }
}

impl Contender {
    /// Starts it on a free port before `provider`; `None` where it is not installed.
    pub(crate) fn start(kind: Kind, dir: &Path, provider: SocketAddr) -> Option<Self> {
        let Some(program) = kind.program() else {
            eprintln!("{} is not installed: benches/side_by_side/setup", kind.name());
            return None;
        };
        let (port, admin) = (free_port(), free_port());
        let unix = dir.join(format!("{}.sock", kind.name()));
        let config = match kind {
            Kind::Remora => remora(dir, [port, admin], &unix, provider),
            Kind::Nginx => nginx(dir, port, &unix, provider),
            Kind::Haproxy => haproxy(port, &unix, provider),
            Kind::Envoy => envoy(port, &unix, provider),
        };
        // Envoy goes by the file's ending
        let file = dir.join(format!("{}.yaml", kind.name()));
        fs::write(&file, &config).unwrap();
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        match kind {
            Kind::Remora => command.args(["run", "--config"]).arg(&file),
            Kind::Nginx => command.arg("-p").arg(dir).arg("-c").arg(&file),
            Kind::Haproxy => command.args(["-q", "-f"]).arg(&file),
            Kind::Envoy => command.args(["--concurrency", "1", "-l", "error", "-c"]).arg(&file),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let contender = Self { kind, port, unix, config, child };
        drop(reach(port, kind));
        if kind == Kind::Remora {
            access_log_off(reach(admin, kind));
        }
        Some(contender)
    }

    /// Run time of all its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        let of_task = |task: PathBuf| {
            let stat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
        };
        let tasks =
            self.processes().into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
        Duration::from_nanos(tasks.flatten().flatten().map(|task| of_task(task.path())).sum())
    }

    /// Bytes of memory, what is shared counted in part (PSS).
    pub(crate) fn memory(&self) -> u64 {
        let of_process = |pid: u32| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
        };
        self.processes().into_iter().map(of_process).sum()
    }

    /// It and what it started.
    fn processes(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connection to what has just been started.
fn reach(port: u16, kind: Kind) -> TcpStream {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < patience, "{} does not listen: {error}", kind.name()),
        }
        std::thread::yield_now();
    }
}

fn access_log_off(mut stream: TcpStream) {
    let request = "POST /log-level HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 13\r\n\r\n\
        info,call=off";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// With all that a real one does: a key, a permission, balancing, metrics.
fn remora(dir: &Path, [port, admin]: [u16; 2], unix: &Path, provider: SocketAddr) -> String {
    let hash: String =
        Sha256::digest(b"a-key-of-the-bench").iter().map(|byte| format!("{byte:02x}")).collect();
    let file = dir.join("registry.yaml");
    let registry = format!(
        "/service/bench: {{ access: key }}\n\
         /api/bench/small: {{ path: /bench/small }}\n\
         /api/bench/large: {{ path: /bench/large }}\n\
         /access/bench/web: {{ apis: [\"*\"], keys: [ {{ sha256: {hash} }} ], \
         quota: {{ rate: 1000000, per: 1s, burst: 1000000, scope: host }} }}\n\
         /address/bench/{provider}: {{}}\n"
    );
    fs::write(&file, registry).unwrap();
    format!(
        "registry: {{ embedded: {{ file: {} }} }}\nlisten: [ 127.0.0.1:{port}, unix:{} ]\n\
         admin: 127.0.0.1:{admin}\nworkers: 1\n",
        file.display(),
        unix.display()
    )
}

fn nginx(dir: &Path, port: u16, unix: &Path, provider: SocketAddr) -> String {
    let (dir, unix) = (dir.display(), unix.display());
    format!(
        "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log off;\n keepalive_requests 1000000;\n client_body_temp_path {dir};\n \
         proxy_temp_path {dir};\n fastcgi_temp_path {dir};\n uwsgi_temp_path {dir};\n scgi_temp_path {dir};\n \
         upstream provider {{ server {provider}; keepalive 128; keepalive_requests 1000000; }}\n \
         server {{\n  listen 127.0.0.1:{port} backlog=1024;\n  listen unix:{unix};\n  location / {{\n   \
         proxy_pass http://provider;\n   proxy_http_version 1.1;\n   proxy_set_header Connection \"\";\n  }}\n }}\n}}\n"
    )
}

fn haproxy(port: u16, unix: &Path, provider: SocketAddr) -> String {
    format!(
        "global\n nbthread 1\n maxconn 4096\ndefaults\n mode http\n timeout client 30s\n timeout server 30s\n \
         timeout connect 1s\n http-reuse always\nfrontend calls\n bind 127.0.0.1:{port} backlog 1024\n \
         bind unix@{}\n default_backend provider\nbackend provider\n server one {provider} pool-max-conn 128\n",
        unix.display()
    )
}

fn envoy(port: u16, unix: &Path, provider: SocketAddr) -> String {
    let manager = "{ name: envoy.filters.network.http_connection_manager, typed_config: { \
        \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
        stat_prefix: calls, codec_type: HTTP1, http_filters: [ { name: envoy.filters.http.router, typed_config: { \
        \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } } ], route_config: { \
        virtual_hosts: [ { name: all, domains: [\"*\"], routes: [ { match: { prefix: / }, \
        route: { cluster: provider } } ] } ] } } }";
    let tcp = format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let pipe = format!("{{ pipe: {{ path: {} }} }}", unix.display());
    let (host, at) = (provider.ip(), provider.port());
    format!(
        "static_resources:\n  listeners:\n  - {{ name: tcp, address: {tcp}, filter_chains: [ {{ filters: [ {manager} ] }} ] }}\n  \
         - {{ name: unix, address: {pipe}, filter_chains: [ {{ filters: [ {manager} ] }} ] }}\n  \
         clusters:\n  - {{ name: provider, type: STATIC, connect_timeout: 1s, load_assignment: {{ cluster_name: provider, \
         endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: {host}, \
         port_value: {at} }} }} }} }} ] }} ] }} }}\n"
    )
}

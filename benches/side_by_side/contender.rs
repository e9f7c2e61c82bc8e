//! The programs that are compared: how each is set up, started, measured and ended.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::wire;

/// Who answers, behind each of them.
pub(crate) type Providers = [SocketAddr; 2];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing in between: what callers and providers alone need.
    Direct,
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
    /// As it was set up and measured.
    pub(crate) config: String,
    /// None of its own where callers reach the provider.
    child: Option<Child>,
}

/// With what it is started.
#[derive(Clone, Copy)]
pub(crate) struct Means<'m> {
    pub(crate) dir: &'m Path,
    pub(crate) providers: Providers,
    pub(crate) workers: usize,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Direct, Self::Remora, Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "no proxy",
            Self::Remora => "remora",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        }
    }

    fn program(self) -> Option<PathBuf> {
        let path = match self {
            Self::Direct => return None,
            Self::Remora => {
                std::env::var_os("REMORA").map_or_else(|| env!("CARGO_BIN_EXE_remora").into(), PathBuf::from)
            }
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
            Self::Direct | Self::Remora | Self::Envoy => "--version",
        };
        let told = self.program().and_then(|program| Command::new(program).arg(flag).output().ok());
        let told = told.map(|told| [told.stdout, told.stderr].concat()).unwrap_or_default();
        let told = String::from_utf8_lossy(&told);
        told.lines().find(|line| line.contains('.')).unwrap_or("unknown").trim().to_owned()
    }
}

impl Contender {
    /// Starts it on the first cores, as many as it has workers; `None` where it is not installed.
    pub(crate) fn start(kind: Kind, means: Means) -> Option<Self> {
        let Means { dir, providers, workers } = means;
        if kind == Kind::Direct {
            let (port, unix) = (providers[0].port(), PathBuf::new());
            return Some(Self { kind, port, unix, config: String::new(), child: None });
        }
        let Some(program) = kind.program() else {
            eprintln!("{} is not installed: benches/side_by_side/setup", kind.name());
            return None;
        };
        let port = free_port();
        let unix = dir.join(format!("{}.sock", kind.name()));
        let config = match kind {
            Kind::Direct => String::new(),
            Kind::Remora => remora(means, port, &unix),
            Kind::Nginx => nginx(dir, port, &unix, providers),
            Kind::Haproxy => haproxy(port, &unix, providers),
            Kind::Envoy => envoy(port, &unix, providers),
        };
        // Envoy goes by the file's ending
        let file = dir.join(format!("{}.yaml", kind.name()));
        fs::write(&file, &config).unwrap();
        let mut command = Command::new("taskset");
        command.args(["-c", &format!("0-{}", workers - 1)]).arg(program);
        match kind {
            Kind::Direct | Kind::Remora => command.args(["run", "--config"]).arg(&file),
            Kind::Nginx => command.arg("-p").arg(dir).arg("-c").arg(&file),
            Kind::Haproxy => command.args(["-q", "-f"]).arg(&file),
            Kind::Envoy => command.args(["--concurrency", "1", "-l", "error", "-c"]).arg(&file),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        await_listener(port, kind);
        Some(Self { kind, port, unix, config, child: Some(child) })
    }

    /// Run time of all its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.processes().into_iter().map(|pid| wire::run_time(pid, "")).sum()
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
        let Some(own) = self.child.as_ref().map(Child::id) else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn await_listener(port: u16, kind: Kind) {
    let patience = Instant::now() + Duration::from_secs(20);
    while let Err(error) = TcpStream::connect(("127.0.0.1", port)) {
        assert!(Instant::now() < patience, "{} does not listen: {error}", kind.name());
        std::thread::yield_now();
    }
}

/// With all that a real one does: a key, a permission, a quota, balancing over two providers with their circuits, metrics.
fn remora(means: Means, port: u16, unix: &Path) -> String {
    let file = means.dir.join("registry.yaml");
    let [one, two] = means.providers;
    let registry = format!(
        "/service/bench: {{ access: key }}\n\
         /api/bench/small: {{ path: /bench/small }}\n\
         /api/bench/large: {{ path: /bench/large }}\n\
         /api/bench/echo: {{ path: /bench/echo }}\n\
         /access/bench/web: {access}\n\
         /address/bench/{one}: {{}}\n\
         /address/bench/{two}: {{}}\n\
         /service/yar: {{ access: key }}\n\
         /api/yar/echo: {{ encoding: yar-msgpack }}\n\
         /access/yar/web: {access}\n\
         /address/yar/{one}: {{}}\n\
         /address/yar/{two}: {{}}\n",
        access = wire::access()
    );
    fs::write(&file, &registry).unwrap();
    let registry: String = registry.lines().map(|line| format!("# {line}\n")).collect();
    format!(
        "registry: {{ embedded: {{ file: {} }} }}\nlisten: [ 127.0.0.1:{port}, unix:{} ]\n\
         admin: 127.0.0.1:0\nworkers: {}\naccess_log: off\n# the registry:\n{registry}",
        file.display(),
        unix.display(),
        means.workers
    )
}

fn nginx(dir: &Path, port: u16, unix: &Path, [one, two]: Providers) -> String {
    let (dir, unix) = (dir.display(), unix.display());
    format!(
        "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log off;\n keepalive_requests 1000000;\n client_body_temp_path {dir};\n \
         proxy_temp_path {dir};\n fastcgi_temp_path {dir};\n uwsgi_temp_path {dir};\n scgi_temp_path {dir};\n \
         upstream provider {{ server {one}; server {two}; keepalive 128; keepalive_requests 1000000; }}\n \
         server {{\n  listen 127.0.0.1:{port} backlog=1024;\n  listen unix:{unix};\n  location / {{\n   \
         proxy_pass http://provider;\n   proxy_http_version 1.1;\n   proxy_set_header Connection \"\";\n  }}\n }}\n}}\n"
    )
}

fn haproxy(port: u16, unix: &Path, [one, two]: Providers) -> String {
    format!(
        "global\n nbthread 1\n maxconn 4096\ndefaults\n mode http\n timeout client 30s\n timeout server 30s\n \
         timeout connect 1s\n http-reuse always\nfrontend calls\n bind 127.0.0.1:{port} backlog 1024\n \
         bind unix@{}\n default_backend provider\nbackend provider\n server one {one} pool-max-conn 128\n server two {two} pool-max-conn 128\n",
        unix.display()
    )
}

fn envoy(port: u16, unix: &Path, [one, two]: Providers) -> String {
    let manager = "{ name: envoy.filters.network.http_connection_manager, typed_config: { \
        \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
        stat_prefix: calls, codec_type: HTTP1, http_filters: [ { name: envoy.filters.http.router, typed_config: { \
        \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } } ], route_config: { \
        virtual_hosts: [ { name: all, domains: [\"*\"], routes: [ { match: { prefix: / }, \
        route: { cluster: provider } } ] } ] } } }";
    let tcp = format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let pipe = format!("{{ pipe: {{ path: {} }} }}", unix.display());
    let endpoint = |at: SocketAddr| {
        let (host, port) = (at.ip(), at.port());
        format!(
            "{{ endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }} }}"
        )
    };
    let endpoints = [one, two].map(endpoint).join(", ");
    format!(
        "static_resources:\n  listeners:\n  - {{ name: tcp, address: {tcp}, filter_chains: [ {{ filters: [ {manager} ] }} ] }}\n  \
         - {{ name: unix, address: {pipe}, filter_chains: [ {{ filters: [ {manager} ] }} ] }}\n  \
         clusters:\n  - {{ name: provider, type: STATIC, connect_timeout: 1s, load_assignment: {{ cluster_name: provider, \
         endpoints: [ {{ lb_endpoints: [ {endpoints} ] }} ] }} }}\n"
    )
}

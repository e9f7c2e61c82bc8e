//! Makes the parts, joins them, starts them, and drains them in order.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::{self, Admin, Pages};
use crate::config::{self, Bind, Config};
use crate::directory::Directory;
use crate::explain::Memory;
use crate::gateway::{End, Means, Worker};
use crate::listen::{self, Door, Seats, Terms};
use crate::otlp;
use crate::probe;
use crate::registry::{self, Own, Source};
use crate::socket::{self, Bound, SocketFile};
use crate::telemetry::Telemetry;
use crate::upstream::Budget;

mod observe;

/// At the end of a drain, to close the session at the registry.
const CLOSING: Duration = Duration::from_millis(700);
/// At the end of a drain, to tell callers and the log of calls that are given up.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Descriptors kept for connections to providers, the registry, admin and files.
const DESCRIPTORS_KEPT: u64 = 64;
/// How often a worker closes connections that were idle for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// The running sidecar.
#[derive(Debug)]
pub struct App {
    listening: Vec<String>,
    admin_at: String,
    /// Removed at the end.
    _files: Vec<SocketFile>,
    admin: Arc<Admin>,
    drain: Duration,
    /// Of it for what is behind the last call.
    closing: Duration,
    end: Arc<End>,
    /// Own providers left the registry.
    left: JoinSet<()>,
    stop_workers: watch::Sender<bool>,
    /// Ends when the last worker has.
    workers: mpsc::Receiver<()>,
    stop_control: watch::Sender<bool>,
    control: JoinSet<()>,
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
    source: Source,
}

/// Why the sidecar did not start; its Display names the way out.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl App {
    /// Binds every port, then starts registry, workers, probes and admin on this runtime and their threads.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        let seats = seats(&mut config);
        for note in &config.notes {
            tracing::warn!("{note}");
        }
        let doors = Doors::open(&config)?;
        // caught before anything is registered: a signal from now on ends in a drain
        let [term, int, hup, usr2] = signals()?;
        let source = registry::open(&config.registry).map_err(|e| StartError(e.to_string()))?;
        let traces = config.otlp.as_ref().and_then(|otlp| otlp.traces);
        let telemetry = Telemetry::of(&config.host.name, config.access_log, traces).map_err(StartError)?;
        let (directory, wants) =
            Directory::new(config.defaults.clone(), config.host.idc.clone(), telemetry.clone());
        let buffers = Budget::new(config.buffers, config.workers);
        let memory = Arc::<Memory>::default();
        observe::observe(&telemetry, &source, &directory, &buffers);
        observe::seats(&telemetry, &seats);

        let admin = Arc::new(Admin {
            directory: directory.clone(),
            source: source.clone(),
            telemetry: telemetry.clone(),
            config: config.to_value(),
            drain: watch::channel(false).0,
            listening: AtomicBool::new(false),
            comparing: tokio::sync::Mutex::default(),
            memory: memory.clone(),
            buffers: buffers.clone(),
        });
        let (stop_control, stopped) = watch::channel(false);
        let mut control = JoinSet::new();
        let host = config.host.name.clone();
        control.spawn(registry::run(source.clone(), directory.clone(), host, wants, stopped.clone()));
        control.spawn(probe::peers(directory.clone(), stopped.clone()));
        control.spawn(admin::serve(admin.clone(), doors.admin, Pages::All, stopped.clone()));
        if let Some(socket) = doors.telemetry {
            control.spawn(admin::serve(admin.clone(), socket, Pages::Telemetry, stopped.clone()));
        }
        if let Some(otlp) = config.otlp.clone() {
            // less than what everything at the end has in all
            let last = closing(&config) / 2;
            control.spawn(otlp::run(otlp, telemetry.clone(), last, stopped));
        }
        let left = announce(source.clone(), &config, &admin.drain);
        let closing = closing(&config);
        let end = Arc::<End>::default();

        let (stop_workers, stop) = watch::channel(false);
        let means = Means {
            host: config.host.name,
            host_caller: config.caller,
            defaults: config.defaults,
            buffers,
            memory,
            askers: config.explain.into(),
            end: end.clone(),
        };
        let make = Make { directory, telemetry, means, seats, stop };
        let workers = start_workers(make, doors.calls, config.workers)?;
        admin.listening.store(true, Relaxed);
        Ok(Self {
            listening: doors.listening,
            admin_at: doors.admin_at,
            _files: doors.files,
            admin,
            drain: config.drain,
            closing,
            end,
            left,
            stop_workers,
            workers,
            stop_control,
            control,
            term,
            int,
            hup,
            usr2,
            source,
        })
    }

    /// Where calls are taken.
    pub fn listening(&self) -> &[String] {
        &self.listening
    }

    /// Where operators are answered.
    pub fn admin_at(&self) -> &str {
        &self.admin_at
    }

    /// Runs until SIGTERM, SIGINT or SIGHUP, then drains; at SIGUSR2 own providers stay for who comes next.
    pub async fn run_until_signal(mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            _ = self.hup.recv() => {}
            _ = self.usr2.recv() => self.hand_over().await,
        }
        self.shut_down().await;
    }

    /// Own providers stay in the registry until the next process takes them over, or the session ends.
    async fn hand_over(&mut self) {
        tracing::info!("stopping: own providers stay registered for the next process");
        // gone before the word to leave is given
        self.left.shutdown().await;
        self.source.leave_session();
    }

    /// Own providers leave the registry, then calls in flight are answered, then everything ends.
    pub async fn shut_down(mut self) {
        let over = tokio::time::Instant::now() + self.drain;
        if !self.left.is_empty() {
            tracing::info!("stopping: own providers leave the registry");
        }
        self.admin.drain.send_replace(true);
        let left = async { while self.left.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain / 2, left).await.is_err() {
            self.tell_who_stayed();
        }
        tracing::info!(drain = ?self.drain, "stopping: calls in flight are answered");
        self.stop_workers.send_replace(true);
        if tokio::time::timeout_at(over - self.closing, self.workers.recv()).await.is_err() {
            self.end.come();
            // they tell callers and the log; those that can't in time are told of as far as they came
            let _ = tokio::time::timeout(LAST_WORDS, self.workers.recv()).await;
            tracing::warn!(
                drain = ?self.drain,
                after = ?(self.drain - self.closing),
                calls = self.end.given_up(),
                "the drain time was over: calls still in flight were given up, logged as `drained`"
            );
        }
        self.stop_control.send_replace(true);
        let end = async { while self.control.join_next().await.is_some() {} };
        if tokio::time::timeout_at(over + LAST_WORDS / 10, end).await.is_err() {
            tracing::warn!("the registry did not close in time");
        }
    }

    /// They go on trying while calls in flight are answered.
    fn tell_who_stayed(&self) {
        for own in self.source.status().own.into_iter().filter(|own| own.registered) {
            tracing::warn!(
                node = own.path,
                reason = own.note,
                waited = ?self.drain / 2,
                "own provider did not leave the registry: callers keep coming until its session ends"
            );
        }
    }
}

/// What closing the registry's session, and telling the collector the rest, have of the time to drain.
fn closing(config: &Config) -> Duration {
    let most = match config.registry.source {
        config::Source::Embedded { .. } if config.otlp.is_none() => LAST_WORDS,
        config::Source::Embedded { .. } | config::Source::ZooKeeper { .. } => CLOSING,
    };
    (config.drain / 5).min(most)
}

/// For as many callers at once as `connections` says, and half of the descriptors this process may have; a note
/// where that is less.
fn seats(config: &mut Config) -> Arc<Seats> {
    let wanted = config.connections;
    let limits = rustix::process::getrlimit(Resource::Nofile);
    // the soft limit is for programs that use select(2)
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    let may = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limits.maximum,
        Err(_) => limits.current,
    };
    let half = may.unwrap_or(1 << 20).min(1 << 20).saturating_sub(DESCRIPTORS_KEPT) / 2;
    let half = half.max(16) as usize;
    if half < wanted {
        config.notes.push(format!(
            "connections: {half} instead of {wanted}, because this process may open {} files; raise `ulimit -n` \
             (LimitNOFILE of systemd) to {}, or set connections to {half}",
            may.unwrap_or(0),
            2 * wanted as u64 + DESCRIPTORS_KEPT
        ));
        config.connections = half;
    }
    Seats::new(config.connections)
}

/// Every socket, bound.
struct Doors {
    /// One of each listener for every worker.
    calls: Vec<Vec<Door>>,
    admin: Bound,
    telemetry: Option<Bound>,
    listening: Vec<String>,
    admin_at: String,
    files: Vec<SocketFile>,
}

impl Doors {
    fn open(config: &Config) -> Result<Self, StartError> {
        let (mut calls, mut listening, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for at in &config.listen {
            let bound = bind("listen", &at.bind, config.workers, &mut files)?;
            listening.extend(bound.first().map(|bound| socket::address(bound, &at.bind)));
            let terms = Terms { service: at.service.clone(), callers: at.callers.clone() };
            let terms = Arc::new(terms);
            let door = |socket| Door { socket, terms: terms.clone() };
            calls.push(bound.into_iter().map(door).collect());
        }
        let mut one = |key, at: &Bind| {
            let mut bound = bind(key, at, 1, &mut files)?;
            bound.pop().ok_or_else(|| StartError(format!("{key}: {at} can't be served")))
        };
        let admin = one("admin", &config.admin)?;
        let telemetry = config.telemetry.as_ref().map(|at| one("telemetry", at)).transpose()?;
        let admin_at = socket::address(&admin, &config.admin);
        Ok(Self { calls, admin, telemetry, listening, admin_at, files })
    }
}

fn bind(key: &str, at: &Bind, workers: usize, files: &mut Vec<SocketFile>) -> Result<Vec<Bound>, StartError> {
    let bound = socket::bind(at, workers).map_err(|e| taken(key, at, &e))?;
    files.extend(SocketFile::of(at));
    Ok(bound)
}

fn taken(key: &str, at: &Bind, error: &std::io::Error) -> StartError {
    let variable = key.to_uppercase();
    let kind = error.kind();
    let way_out = if kind == std::io::ErrorKind::AddrInUse {
        format!("another program serves it; stop it or set `{key}` (REMORA_{variable}) to another address")
    } else if kind == std::io::ErrorKind::AlreadyExists {
        format!("remove it or set `{key}` (REMORA_{variable}) to another path")
    } else if kind == std::io::ErrorKind::PermissionDenied {
        "this user may not; use a port above 1023".into()
    } else if kind == std::io::ErrorKind::NotFound {
        "its directory does not exist; make it".into()
    } else {
        format!("set `{key}` to an address of this host")
    };
    StartError(format!("{key}: {at} can't be served: {error}; {way_out}"))
}

/// SIGTERM, SIGINT, SIGHUP, SIGUSR2.
fn signals() -> Result<[Signal; 4], StartError> {
    let caught = |kind| signal(kind).map_err(|e| StartError(format!("signals can't be caught: {e}")));
    let (term, int) = (SignalKind::terminate(), SignalKind::interrupt());
    Ok([caught(term)?, caught(int)?, caught(SignalKind::hangup())?, caught(SignalKind::user_defined2())?])
}

/// Starts the probes of this host's providers and what keeps the healthy ones registered.
fn announce(source: Source, config: &Config, drain: &watch::Sender<bool>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut own = Vec::new();
    for provider in &config.providers {
        let (tell, healthy) = watch::channel(provider.health.is_none().then_some(true));
        if let Some(check) = provider.health.clone() {
            let mut stop = drain.subscribe();
            let address = provider.address.clone();
            tasks.spawn(async move {
                probe::watch(address, check, tell, socket::stopped(&mut stop)).await;
            });
        }
        own.push(Own { provider: provider.clone(), idc: config.host.idc.clone(), healthy });
    }
    tasks.spawn(registry::announce(source, own, drain.subscribe()));
    tasks
}

/// What every worker is made of.
#[derive(Debug, Clone)]
struct Make {
    directory: Arc<Directory>,
    telemetry: Telemetry,
    means: Means,
    seats: Arc<Seats>,
    stop: watch::Receiver<bool>,
}

/// One thread each, with a runtime and sockets of its own; the receiver ends with the last of them.
fn start_workers(
    make: Make,
    mut doors: Vec<Vec<Door>>,
    count: usize,
) -> Result<mpsc::Receiver<()>, StartError> {
    let (done, ended) = mpsc::channel(1);
    let (telemetry, mut runtimes) = (make.telemetry.clone(), vec![Handle::current()]);
    for number in 0..count {
        let own = doors.iter_mut().filter_map(Vec::pop).collect();
        let (make, done) = (make.clone(), done.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| StartError(format!("workers: no runtime for worker {number}: {e}")))?;
        runtimes.push(runtime.handle().clone());
        let work = move || {
            runtime.block_on(work(make, own));
            drop(done);
        };
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(work)
            .map_err(|e| StartError(format!("workers: no thread for worker {number}: {e}")))?;
    }
    observe::tasks(&telemetry, runtimes);
    Ok(ended)
}

async fn work(make: Make, doors: Vec<Door>) {
    let worker = Worker::new(make.directory, make.telemetry, make.means);
    let sweep = async {
        loop {
            tokio::time::sleep(SWEEP).await;
            worker.upstream.sweep(Instant::now());
        }
    };
    tokio::select! {
        () = listen::serve(worker.clone(), doors, make.seats, make.stop) => {}
        () = sweep => {}
    }
    worker.telemetry.tells_rest(&worker.repeats);
}

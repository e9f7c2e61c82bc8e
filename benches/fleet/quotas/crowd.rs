//! Sidecars whose callers ask for as much as they are told to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use remora::config::Config;
use remora::names::ServiceName;
use remora::registry;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::super::meter::Counts;
use super::super::registry::{PATIENCE, put};
use super::super::sidecar::{Make, Sidecar};

/// Calls a second of the quota, for each sidecar of the fleet.
const EACH: u64 = 20;
/// Between two looks at who is to call.
const TICK: Duration = Duration::from_millis(50);
const CALLER: &str = "web";

/// What callers ask for, at times by chance.
#[derive(Debug, Clone, Copy)]
pub(super) enum Demand {
    None,
    /// Each between half and one and a half of the same, in sum about a fifth more than the quota.
    Even,
    /// This tenth of the sidecars for nine tenths of the quota, all others together for the rest.
    Tenth(usize),
}

/// What became of calls so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) operations: u64,
    pub(super) events: u64,
    pub(super) connected: usize,
    pub(super) passed: u64,
    /// What was asked for, no more than the quota.
    pub(super) due: f64,
}

/// What the thread that calls goes by and tells.
struct Calls {
    /// Calls a second of each sidecar, to each service.
    demands: Mutex<Vec<f64>>,
    passed: AtomicU64,
    /// In thousandths.
    due: AtomicU64,
    stop: AtomicBool,
}

pub(super) struct Crowd {
    runtime: Runtime,
    fleet: Arc<Mutex<Vec<Option<Sidecar>>>>,
    names: Arc<Vec<ServiceName>>,
    calls: Arc<Calls>,
    thread: Option<JoinHandle<()>>,
    /// Of those who are gone.
    gone: Tally,
}

impl Crowd {
    /// Every sidecar starts in the same moment and loads all services.
    pub(super) fn start(config: &Config, sidecars: usize, services: usize) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let names = (0..services).map(|n| ServiceName::new(&format!("service-{n:04}")).unwrap());
        let names: Arc<Vec<_>> = Arc::new(names.collect());
        runtime.block_on(fill(config, &names, EACH * sidecars as u64));
        let make = Make { config, names: &names, used: services, handle: runtime.handle() };
        let start = |n| Some(Sidecar::start(&make, format!("web-{n:04}"), None, (0..services).collect()));
        let fleet: Arc<Mutex<Vec<_>>> = Arc::new(Mutex::new((0..sidecars).map(start).collect()));
        let calls = Arc::new(Calls {
            demands: Mutex::new(vec![0.0; sidecars]),
            passed: AtomicU64::new(0),
            due: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (fleet_of, names_of, calls_of) = (fleet.clone(), names.clone(), calls.clone());
        let call = move || call(&fleet_of, &names_of, &calls_of);
        let thread = std::thread::Builder::new().name("meter".into()).spawn(call).unwrap();
        Self { runtime, fleet, names, calls, thread: Some(thread), gone: Tally::default() }
    }

    /// Whether every sidecar made its nodes, after which nothing is done by itself.
    pub(super) fn is_complete(&self) -> bool {
        let fleet = self.fleet.lock().unwrap();
        // a node for each service; the caller's limiter comes with it
        fleet.iter().flatten().all(|sidecar| {
            let known = |name| sidecar.directory.known(name).is_some();
            sidecar.source.status().connected && self.names.iter().all(known)
        })
    }

    /// From now on callers ask for this.
    pub(super) fn demand(&self, demand: Demand) {
        let mut demands = self.calls.demands.lock().unwrap();
        let (count, each) = (demands.len(), EACH as f64);
        let tenth = (count / 10).max(1);
        let mut rng = fastrand::Rng::with_seed(1);
        for (n, wanted) in demands.iter_mut().enumerate() {
            let even = 1.2 * each * (0.5 + rng.f64());
            *wanted = match demand {
                Demand::None => 0.0,
                Demand::Even => even,
                Demand::Tenth(which) if n / tenth == which => 0.9 * each * count as f64 / tenth as f64,
                Demand::Tenth(_) => 0.1 * each * count as f64 / (count - tenth).max(1) as f64,
            };
        }
    }

    /// What was counted until now.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.gone;
        for sidecar in self.fleet.lock().unwrap().iter().flatten() {
            let counts = Counts::of(std::slice::from_ref(sidecar));
            tally.operations += counts.operations;
            tally.events += counts.events;
            tally.connected += counts.connected;
        }
        tally.passed = self.calls.passed.load(Relaxed);
        tally.due = self.calls.due.load(Relaxed) as f64 / 1000.0;
        tally
    }

    /// The sidecar of this session ends without a word to the server; gives its number.
    pub(super) fn lose(&mut self, session: &str) -> usize {
        let mut fleet = self.fleet.lock().unwrap();
        let is_it = |sidecar: &Sidecar| sidecar.source.status().session.as_deref() == Some(session);
        let number = fleet.iter().position(|sidecar| sidecar.as_ref().is_some_and(is_it)).unwrap();
        let sidecar = fleet[number].take().unwrap();
        drop(fleet);
        let counts = Counts::of(std::slice::from_ref(&sidecar));
        self.gone.operations += counts.operations;
        self.gone.events += counts.events;
        self.calls.demands.lock().unwrap()[number] = 0.0;
        sidecar.source.leave_session();
        self.runtime.block_on(sidecar.stop());
        number
    }

    /// All leave.
    pub(super) fn end(mut self) {
        self.calls.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        let fleet = std::mem::take(&mut *self.fleet.lock().unwrap());
        self.runtime.block_on(async {
            let mut ends = tokio::task::JoinSet::new();
            fleet.into_iter().flatten().for_each(|sidecar| drop(ends.spawn(sidecar.stop())));
            while ends.join_next().await.is_some() {}
        });
        self.runtime.shutdown_background();
    }
}

/// Calls as demanded, until it is stopped.
fn call(fleet: &Mutex<Vec<Option<Sidecar>>>, names: &[ServiceName], calls: &Calls) {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut last = Instant::now();
    while !calls.stop.load(Relaxed) {
        std::thread::sleep(TICK);
        let demands = calls.demands.lock().unwrap().clone();
        let passed = last.elapsed().as_secs_f64();
        last = Instant::now();
        let quota = (EACH as usize * demands.len()) as f64;
        let due = demands.iter().sum::<f64>().min(quota) * passed * names.len() as f64;
        calls.due.fetch_add((due * 1000.0) as u64, Relaxed);
        for (sidecar, demand) in fleet.lock().unwrap().iter().zip(&demands) {
            let Some(sidecar) = sidecar.as_ref() else { continue };
            for name in names {
                let times = chance(demand * passed, &mut rng);
                let Some(entry) = sidecar.directory.known(name) else { continue };
                let limiter = entry.accounts.of(CALLER).first().and_then(|account| account.limiter.as_ref());
                let Some(limiter) = limiter else { continue };
                let ok = (0..times).filter(|_| limiter.take(Instant::now()).is_ok()).count();
                calls.passed.fetch_add(ok as u64, Relaxed);
            }
        }
    }
}

/// How many calls come where so many are expected: callers know nothing of each other (Poisson).
fn chance(expected: f64, rng: &mut fastrand::Rng) -> u32 {
    let (end, mut product, mut calls) = ((-expected).exp(), rng.f64(), 0);
    while product > end {
        (product, calls) = (product * rng.f64(), calls + 1);
    }
    calls
}

/// Writes all services, each with a quota of its own.
async fn fill(config: &Config, names: &[ServiceName], rate: u64) {
    let writer = registry::open(&config.registry).unwrap();
    let (stop, stopped) = watch::channel(false);
    let supervised = writer.clone();
    let task = tokio::spawn(async move { supervised.supervise(stopped).await });
    writer.reached(PATIENCE).await.unwrap();
    for name in names {
        // what was saved up by who asks no more is a tenth of a second's calls
        let quota = format!("{{\"quota\":{{\"rate\":{rate},\"burst\":{}}}}}", rate / 10);
        put(&writer, &format!("/service/{name}"), "{}").await.unwrap();
        put(&writer, &format!("/api/{name}/get"), "{}").await.unwrap();
        put(&writer, &format!("/access/{name}/{CALLER}"), &quota).await.unwrap();
    }
    stop.send_replace(true);
    let _ = task.await;
}

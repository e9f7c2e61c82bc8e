//! The fleet, its ensemble, and what happens to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remora::config;
use remora::model::Layout;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;

use super::meter::{self, Counts, Meter, Witness};
use super::nodes::{Machine, NODES, Nodes};
use super::options::Options;
use super::registry::{Registry, Written};
use super::sidecar::{Make, Sidecar};
use super::table::{Phase, millis, seconds, spread};
use super::wait::{Place, Times, checked, equal, places, until};

/// Until every view is equal; beyond it the bench has failed.
const EQUAL: Duration = Duration::from_secs(180);
/// Until an own provider is back in ZooKeeper.
const OWN_BACK: Duration = Duration::from_secs(30);
/// Changes a second while nothing else happens.
const CHANGES: u32 = 100;
/// As servers have it in production; a session lasts up to 20 of them.
const TICK_MS: u32 = 2000;

pub(crate) struct World {
    options: Options,
    pub(crate) nodes: Nodes,
    runtime: Runtime,
    config: config::Config,
    registry: Registry,
    fleet: Arc<Vec<Sidecar>>,
    meter: Option<Meter>,
    /// Memory before the first sidecar.
    base: u64,
    /// Alive on the heaps of all servers, before and with the fleet.
    heap: [Option<u64>; 2],
    /// Of the whole fleet, when nothing happened.
    watched: Counts,
    loaded: Instant,
    pub(crate) phases: Vec<Phase>,
    pub(crate) failures: Vec<String>,
}

impl World {
    /// An ensemble with every service in it, and no sidecar yet.
    pub(crate) fn new(options: &Options) -> Self {
        let nodes = Nodes::start(Machine { heap_mb: options.heap_mb, tick_ms: TICK_MS });
        nodes.until_served();
        let config = configuration(&nodes.direct(), options.session, options.layout);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let registry = Registry::new(&config.registry, options, runtime.handle());
        let begun = Instant::now();
        let mut failures = Vec::new();
        if let Err(problem) = runtime.block_on(registry.fill()) {
            failures.push(format!("the registry can't be written: {problem}"));
        }
        println!("{} services written in {} s", options.services, seconds(begun.elapsed()));
        let heap = [heaps(&nodes), None];
        Self {
            options: options.clone(),
            nodes,
            runtime,
            config,
            registry,
            fleet: Arc::default(),
            meter: None,
            base: meter::memory(std::process::id()),
            heap,
            watched: Counts::default(),
            loaded: begun,
            phases: Vec::new(),
            failures,
        }
    }

    /// Every sidecar starts in the same moment and loads all its services.
    pub(crate) fn start(&mut self) {
        let mut rng = fastrand::Rng::with_seed(self.options.seed);
        let begun = Instant::now();
        let make = Make {
            config: &self.config,
            names: &self.registry.names,
            used: self.options.used,
            handle: self.runtime.handle(),
        };
        let start = |sidecar| {
            let services = rng.choose_multiple(0..self.options.services, self.options.per_sidecar);
            let own = self.registry.own(sidecar).clone();
            Sidecar::start(&make, own.address.to_string(), Some(own), services)
        };
        self.fleet = Arc::new((0..self.options.sidecars).map(start).collect());
        let servers = self.nodes.ports().map(super::outside::Port::address).collect();
        let (names, witnesses) = (self.registry.names.clone(), self.witnesses());
        let mut meter = Meter::start(self.fleet.clone(), servers, names, witnesses, &self.nodes.pids());
        self.registry.watch_own(&self.config.registry, meter.gaps.clone());
        meter.begin_from_nothing(begun);
        self.meter = Some(meter);
        let mut phase = Phase::new("start");
        self.settle(&mut phase, None, begun);
        self.finish(phase);
        self.loaded = Instant::now();
    }

    pub(crate) fn steady(&mut self, lasts: Duration) {
        let first = self.watched.watched == 0;
        self.begin();
        std::thread::sleep(lasts);
        self.finish(Phase::new(if first { "steady" } else { "steady again" }));
        if first {
            self.watched = Counts::of(&self.fleet);
            self.heap[1] = heaps(&self.nodes);
        }
    }

    /// Waits until services that are not called no longer count as called lately.
    pub(crate) fn rest(&self) {
        std::thread::sleep(self.options.rest.saturating_sub(self.loaded.elapsed()));
    }

    /// One provider of every service changes, while nothing else happens.
    pub(crate) fn change(&mut self) {
        self.begin();
        let subscribers = self.subscribers();
        let mut told = self.registry.change_all(Some(CHANGES));
        let (mut pending, mut times, mut left) = (Vec::new(), Times::default(), self.options.services);
        let done = until(EQUAL, || {
            while let Ok(written) = told.try_recv() {
                self.registry.note(&written);
                left -= 1;
                let since = written.at;
                pending.extend(subscribers[written.service].iter().map(|place| Place { since, ..*place }));
            }
            times.look(&mut pending, |place| equal(&self.fleet, &self.registry, place));
            left == 0 && pending.is_empty()
        });
        if !done {
            self.differs("change", &pending, left);
        }
        let mut phase = Phase::new("change");
        phase.set("write to view: p50 / p99 / max, ms", spread(times.all, millis));
        self.finish(phase);
    }

    /// One server dies in the middle of writes, and stays dead until the views are equal.
    pub(crate) fn kill_one(&mut self, leader: bool) {
        let found = self.nodes.leader();
        let victim = if leader { found } else { (0..NODES).find(|n| Some(*n) != found) };
        let Some(victim) = victim else {
            return self.failures.push("no leader is found".into());
        };
        self.begin();
        let told = self.registry.change_all(None);
        std::thread::sleep(Duration::from_millis(100));
        let begun = Instant::now();
        self.nodes.kill(victim);
        let mut phase = Phase::new(if leader { "the leader killed" } else { "a follower killed" });
        self.settle(&mut phase, Some(told), begun);
        self.finish(phase);
        self.restore();
    }

    /// All servers die right after a change of everything, and are restarted `after` that; everything
    /// changes again meanwhile. Times count from when all serve.
    pub(crate) fn kill_all(&mut self, after: Duration) {
        self.begin();
        let mut told = self.registry.change_all(None);
        let mut left = self.options.services;
        let written = until(EQUAL, || {
            while let Ok(written) = told.try_recv() {
                self.registry.note(&written);
                left -= 1;
            }
            left == 0
        });
        (0..NODES).for_each(|n| self.nodes.kill(n));
        if !written {
            self.failures.push(format!("{left} writes were not acknowledged before the outage"));
        }
        std::thread::sleep(after);
        self.restore();
        let begun = Instant::now();
        let mut phase = Phase::new(format!("all killed for {} s", after.as_secs()));
        let told = self.registry.change_all(None);
        self.settle(&mut phase, Some(told), begun);
        self.finish(phase);
    }

    /// Every sidecar takes its provider out and ends.
    pub(crate) fn leave(&mut self) {
        let begun = Instant::now();
        self.fleet.iter().for_each(Sidecar::leave);
        let own = self.options.sidecars;
        let left =
            |world: &Self| world.meter.as_ref().map_or(0, |meter| meter.gaps.lock().unwrap().missing());
        if until(OWN_BACK, || left(self) == own) {
            println!("\nall own providers left within {} s", seconds(begun.elapsed()));
        } else {
            self.failures.push(format!("only {} of {own} own providers left", left(self)));
        }
        self.meter = None;
        let Some(fleet) = Arc::get_mut(&mut self.fleet).map(std::mem::take) else { return };
        self.runtime.block_on(async {
            let mut ends = tokio::task::JoinSet::new();
            fleet.into_iter().for_each(|sidecar| drop(ends.spawn(sidecar.stop())));
            while ends.join_next().await.is_some() {}
        });
    }

    /// What the servers hold for the fleet.
    pub(crate) fn sizes(&self) -> String {
        let sidecars = self.options.sidecars;
        let Counts { watched, watched_bytes, .. } = self.watched;
        let mut text = format!("{watched} paths watched, {watched_bytes} B, by {sidecars} sessions");
        if let [Some(before), Some(with)] = self.heap {
            let each = with.saturating_sub(before) / (watched as u64).max(1);
            let (before, with) = (before >> 20, with >> 20);
            text += &format!(
                "\nheap of all servers: {before} MB before, {with} MB with the fleet: {each} B per watch, sessions and own nodes included"
            );
        }
        text
    }

    /// Waits for connections, for writes and for views, and then for every entry to be read again.
    fn settle(&mut self, phase: &mut Phase, mut told: Option<UnboundedReceiver<Written>>, begun: Instant) {
        let mut left = if told.is_some() { self.options.services } else { 0 };
        let mut connected = None;
        let mut acknowledged = begun;
        let mut times = Times::default();
        let mut pending: Vec<_> = places(&self.fleet, self.options.used, begun).collect();
        let all = self.options.sidecars;
        let done = until(EQUAL, || {
            while let Some(Ok(written)) = told.as_mut().map(UnboundedReceiver::try_recv) {
                self.registry.note(&written);
                left -= 1;
                acknowledged = acknowledged.max(written.at);
            }
            // before the last write a view may be equal and become different again
            if left == 0 {
                times.look(&mut pending, |place| equal(&self.fleet, &self.registry, place));
            }
            // the last time counts: at first nobody has noticed yet
            match Counts::of(&self.fleet).connected == all {
                true => connected = connected.or_else(|| Some(begun.elapsed())),
                false => connected = None,
            }
            left == 0 && pending.is_empty() && connected.is_some()
        });
        if !done {
            self.differs(&phase.name, &pending, left);
        }
        let mut pending: Vec<_> = places(&self.fleet, self.options.used, begun).collect();
        let mut again = Times::default();
        if !until(EQUAL, || {
            again.look(&mut pending, |place| checked(&self.fleet, &self.registry, place));
            pending.is_empty()
        }) {
            self.failures.push(format!("{}: {} views were not read again", phase.name, pending.len()));
        }
        phase.set("all connected, s", connected.map_or("never".into(), seconds));
        if told.is_some() {
            phase.set("last write acknowledged, s", seconds(acknowledged.saturating_duration_since(begun)));
        }
        phase.set("views equal, called services: p50 / p99 / max, s", spread(times.used, seconds));
        phase.set("views equal, all services: p50 / p99 / max, s", spread(times.all, seconds));
        phase.set("every view read again, s", again.all.iter().max().map_or("never".into(), |t| seconds(*t)));
        self.own_providers(&phase.name);
    }

    /// Every own provider has to be in ZooKeeper now, or soon.
    fn own_providers(&mut self, phase: &str) {
        let Some(meter) = &self.meter else { return };
        if !until(OWN_BACK, || meter.gaps.lock().unwrap().missing() == 0) {
            let missing = meter.gaps.lock().unwrap().missing();
            self.failures.push(format!("{phase}: {missing} own providers are lost in ZooKeeper"));
        }
    }

    /// Tells of views that never became as they should be.
    fn differs(&mut self, phase: &str, pending: &[Place], left: usize) {
        let connected = Counts::of(&self.fleet).connected;
        self.failures.push(format!(
            "{phase}: after {EQUAL:?} {} views differ, {left} writes are not acknowledged, {connected} of {} sidecars are connected",
            pending.len(),
            self.options.sidecars
        ));
        for place in pending.iter().take(3) {
            let name = &self.registry.names[place.service];
            let sidecar = &self.fleet[place.sidecar];
            let entry = sidecar.directory.known(name);
            println!(
                "  {name} of sidecar {}: {:?}\n    in the registry {:?}\n    {:?}",
                place.sidecar,
                entry.as_ref().map(|entry| super::sidecar::providers(entry)),
                self.registry.truth(place.service),
                sidecar.source.status(),
            );
        }
    }

    fn begin(&mut self) {
        let pids = self.nodes.pids();
        if let Some(meter) = &mut self.meter {
            meter.begin(&pids);
        }
    }

    fn finish(&mut self, mut phase: Phase) {
        if let Some(meter) = &self.meter {
            phase.figures(&meter.figures(&self.nodes.pids()), self.options.sidecars, self.base);
        }
        phase.print();
        self.phases.push(phase);
    }

    fn restore(&mut self) {
        self.nodes.restore();
        if !until(Duration::from_secs(60), || self.nodes.all_serve()) {
            self.failures.push("the servers did not come back within 60 s".into());
        }
    }

    /// By service: who has a view of it.
    fn subscribers(&self) -> Vec<Vec<Place>> {
        let mut by_service = vec![Vec::new(); self.options.services];
        let now = Instant::now();
        places(&self.fleet, self.options.used, now).for_each(|place| by_service[place.service].push(place));
        by_service
    }

    /// For every own provider another sidecar that should see it.
    fn witnesses(&self) -> Vec<Witness> {
        let subscribers = self.subscribers();
        let witness = |own: usize| {
            let service = self.registry.own_service(own);
            let sidecar =
                subscribers[service].iter().map(|place| place.sidecar).find(|sidecar| *sidecar != own)?;
            Some(Witness { sidecar, service, own, address: self.registry.own(own).address.clone() })
        };
        (0..self.options.sidecars).filter_map(witness).collect()
    }
}

/// What all sidecars are configured with.
pub(crate) fn configuration(connect: &str, session: Duration, layout: Layout) -> config::Config {
    let layout = match layout {
        Layout::Flat => "flat",
        Layout::Tree => "tree",
    };
    let env = [
        ("REMORA_REGISTRY__ZOOKEEPER__CONNECT", format!("\"{connect}\"")),
        ("REMORA_REGISTRY__ZOOKEEPER__SESSION_TIMEOUT", format!("{}s", session.as_secs())),
        ("REMORA_REGISTRY__LAYOUT", layout.to_owned()),
    ];
    config::load(None, env.map(|(name, value)| (name.to_owned(), value))).unwrap()
}

/// Alive on the heaps of all servers.
fn heaps(nodes: &Nodes) -> Option<u64> {
    nodes.pids().into_iter().map(meter::heap).sum()
}

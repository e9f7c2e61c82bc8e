//! What is measured from outside the sidecars while a phase runs: servers, operations, gaps, CPU, memory.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use remora::names::Address;

use super::nodes::ask;
use super::sidecar::{Sidecar, providers};

/// How often other sidecars' views are looked at for own providers,
const LOOK: Duration = Duration::from_millis(100);
/// and servers and operations.
const SAMPLE: Duration = Duration::from_millis(250);
/// The kernel's unit of CPU time in `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// One phase's figures.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figures {
    pub(crate) took: Duration,
    pub(crate) operations: u64,
    /// In the busiest second.
    pub(crate) peak: u64,
    pub(crate) events: u64,
    pub(crate) reconnects: u64,
    pub(crate) sessions_lost: u64,
    pub(crate) drift: u64,
    pub(crate) latency_avg: f64,
    pub(crate) latency_max: u64,
    pub(crate) outstanding: u64,
    /// Of this process without what measures.
    pub(crate) cpu: Duration,
    pub(crate) servers_cpu: Duration,
    /// Longest time an own provider was missing: in ZooKeeper, and in the view of a sidecar.
    pub(crate) gap: Duration,
    pub(crate) view_gap: Duration,
    /// How many were.
    pub(crate) gaps: usize,
    pub(crate) view_gaps: usize,
    pub(crate) memory: u64,
}

/// Which own providers are missing now, and the longest that one was.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    since: Vec<Option<Instant>>,
    longest: Duration,
    count: usize,
    /// Whether one is looked at for the first time is not a gap.
    seen: Vec<bool>,
}

impl Gaps {
    pub(crate) fn new(own: usize) -> Self {
        Self { since: vec![None; own], longest: Duration::ZERO, count: 0, seen: vec![false; own] }
    }

    /// Own provider `n` was looked for at `now`.
    pub(crate) fn saw(&mut self, n: usize, there: bool, now: Instant) {
        match (there, self.since[n]) {
            (true, None) => self.seen[n] = true,
            (false, None) if self.seen[n] => {
                self.since[n] = Some(now);
                self.count += 1;
            }
            (false, None) => {}
            (_, Some(since)) => {
                self.longest = self.longest.max(now - since);
                if there {
                    self.since[n] = None;
                }
            }
        }
    }

    pub(crate) fn missing(&self) -> usize {
        self.since.iter().flatten().count() + self.seen.iter().filter(|seen| !**seen).count()
    }

    fn take(&mut self) -> (Duration, usize) {
        self.since.iter_mut().flatten().for_each(|since| *since = Instant::now());
        (std::mem::take(&mut self.longest), std::mem::take(&mut self.count))
    }
}

/// Where a sidecar's own provider is looked for: in the view of another one.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    pub(crate) sidecar: usize,
    pub(crate) service: usize,
    pub(crate) own: usize,
    pub(crate) address: Address,
}

pub(crate) struct Meter {
    fleet: Arc<Vec<Sidecar>>,
    servers: Vec<String>,
    sampled: Arc<Mutex<Sampled>>,
    /// In ZooKeeper itself; kept by who reads there.
    pub(crate) gaps: Arc<Mutex<Gaps>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    begun: Begun,
}

struct Begun {
    at: Instant,
    counts: Counts,
    cpu: Duration,
    servers: Vec<(u32, Duration)>,
}

#[derive(Default)]
struct Sampled {
    /// Samples of the phase before do not count.
    since: Option<Instant>,
    peak: u64,
    outstanding: u64,
    latency_max: u64,
    /// Of each server since it started or the phase began.
    latency_avg: Vec<f64>,
    views: Gaps,
}

/// Sums over all sidecars.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) connected: usize,
    pub(crate) watched: usize,
    pub(crate) watched_bytes: usize,
    pub(crate) operations: u64,
    pub(crate) events: u64,
    reconnects: u64,
    sessions: u64,
    drift: u64,
}

impl Counts {
    pub(crate) fn of(fleet: &[Sidecar]) -> Self {
        let mut sum = Self::default();
        for status in fleet.iter().map(|sidecar| sidecar.source.status()) {
            sum.connected += usize::from(status.connected);
            sum.watched += status.watched_paths;
            sum.watched_bytes += status.watched_bytes;
            sum.operations += status.operations;
            sum.events += status.events;
            sum.reconnects += status.reconnects;
            sum.sessions += status.sessions;
            sum.drift += status.drift;
        }
        sum
    }
}

impl Meter {
    pub(crate) fn start(
        fleet: Arc<Vec<Sidecar>>,
        servers: Vec<String>,
        names: Arc<Vec<remora::names::ServiceName>>,
        witnesses: Vec<Witness>,
        pids: &[u32],
    ) -> Self {
        let own = fleet.len();
        let sampled = Sampled { views: Gaps::new(own), ..Sampled::default() };
        let (sampled, stop) = (Arc::new(Mutex::new(sampled)), Arc::<AtomicBool>::default());
        let sampler = Sampler {
            fleet: fleet.clone(),
            servers: servers.clone(),
            names,
            witnesses,
            sampled: sampled.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name("meter".into()).spawn(move || sampler.run()).unwrap();
        let begun = Begun::now(&fleet, pids);
        let gaps = Arc::new(Mutex::new(Gaps::new(own)));
        Self { fleet, servers, sampled, gaps, stop, thread: Some(thread), begun }
    }

    /// A phase begins.
    pub(crate) fn begin(&mut self, pids: &[u32]) {
        self.servers.iter().for_each(|server| drop(ask(server, "srst")));
        {
            let mut sampled = self.sampled.lock().unwrap();
            let views = std::mem::take(&mut sampled.views);
            *sampled = Sampled { since: Some(Instant::now()), views, ..Sampled::default() };
            sampled.views.take();
        }
        self.gaps.lock().unwrap().take();
        self.begun = Begun::now(&self.fleet, pids);
    }

    /// The first phase began when there was no sidecar.
    pub(crate) fn begin_from_nothing(&mut self, at: Instant) {
        self.servers.iter().for_each(|server| drop(ask(server, "srst")));
        self.begun.at = at;
        self.begun.counts = Counts { sessions: self.fleet.len() as u64, ..Counts::default() };
    }

    /// The phase's figures until now.
    pub(crate) fn figures(&self, pids: &[u32]) -> Figures {
        let (begun, now) = (&self.begun, Begun::now(&self.fleet, pids));
        let mut sampled = self.sampled.lock().unwrap();
        let (view_gap, view_gaps) = sampled.views.take();
        let (gap, gaps) = self.gaps.lock().unwrap().take();
        let before =
            |pid| begun.servers.iter().find(|(of, _)| *of == pid).map_or(Duration::ZERO, |(_, cpu)| *cpu);
        let (was, is) = (&begun.counts, &now.counts);
        Figures {
            took: now.at - begun.at,
            operations: is.operations - was.operations,
            peak: sampled.peak,
            events: is.events - was.events,
            reconnects: is.reconnects - was.reconnects,
            sessions_lost: is.sessions.saturating_sub(was.sessions),
            drift: is.drift - was.drift,
            latency_avg: sampled.latency_avg.iter().copied().fold(0.0, f64::max),
            latency_max: sampled.latency_max,
            outstanding: sampled.outstanding,
            cpu: now.cpu.saturating_sub(begun.cpu),
            servers_cpu: now.servers.iter().map(|(pid, cpu)| cpu.saturating_sub(before(*pid))).sum(),
            gap,
            view_gap,
            gaps,
            view_gaps,
            memory: memory(std::process::id()),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Begun {
    fn now(fleet: &[Sidecar], pids: &[u32]) -> Self {
        let servers = pids.iter().map(|pid| (*pid, cpu(&format!("/proc/{pid}")))).collect();
        Self { at: Instant::now(), counts: Counts::of(fleet), cpu: own_cpu(), servers }
    }
}

struct Sampler {
    fleet: Arc<Vec<Sidecar>>,
    servers: Vec<String>,
    names: Arc<Vec<remora::names::ServiceName>>,
    witnesses: Vec<Witness>,
    sampled: Arc<Mutex<Sampled>>,
    stop: Arc<AtomicBool>,
}

impl Sampler {
    fn run(self) {
        let mut second = std::collections::VecDeque::new();
        let mut next = Instant::now();
        while !self.stop.load(Relaxed) {
            self.look();
            if Instant::now() >= next {
                next = Instant::now() + SAMPLE;
                second.push_back((Instant::now(), Counts::of(&self.fleet).operations));
                while second.len() > 2 && second[1].0.elapsed() >= Duration::from_secs(1) {
                    second.pop_front();
                }
                self.sample(&second);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn look(&self) {
        let now = Instant::now();
        let found: Vec<_> = self.witnesses.iter().map(|witness| (witness.own, self.sees(witness))).collect();
        let mut sampled = self.sampled.lock().unwrap();
        found.into_iter().for_each(|(own, there)| sampled.views.saw(own, there, now));
    }

    fn sees(&self, witness: &Witness) -> bool {
        let entry = self.fleet[witness.sidecar].directory.known(&self.names[witness.service]);
        entry.is_some_and(|entry| providers(&entry).contains_key(&witness.address))
    }

    fn sample(&self, second: &std::collections::VecDeque<(Instant, u64)>) {
        let answers: Vec<_> = self.servers.iter().map(|server| Server::parse(&ask(server, "srvr"))).collect();
        let mut sampled = self.sampled.lock().unwrap();
        let of_phase = |at: &Instant| sampled.since.is_none_or(|since| since <= *at);
        if let (Some(first), Some(last)) = (second.iter().find(|(at, _)| of_phase(at)), second.back())
            && last.0 > first.0
        {
            let rate = (last.1 - first.1) as f64 / (last.0 - first.0).as_secs_f64();
            sampled.peak = sampled.peak.max(rate as u64);
        }
        sampled.latency_avg.resize(answers.len(), 0.0);
        for (n, server) in answers.iter().enumerate() {
            let Some(server) = server else { continue };
            sampled.latency_avg[n] = server.latency_avg;
            sampled.latency_max = sampled.latency_max.max(server.latency_max);
            sampled.outstanding = sampled.outstanding.max(server.outstanding);
        }
    }
}

/// What `srvr` says.
struct Server {
    latency_avg: f64,
    latency_max: u64,
    outstanding: u64,
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let latency: Vec<_> = value("Latency min/avg/max:")?.split('/').collect();
        let &[_, avg, max] = latency.as_slice() else { return None };
        let outstanding = value("Outstanding:")?.parse().ok()?;
        Some(Self { latency_avg: avg.parse().ok()?, latency_max: max.parse().ok()?, outstanding })
    }
}

/// CPU time of this process without its first thread and the meter, which are no sidecars.
pub(crate) fn own_cpu() -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let me = std::process::id().to_string();
    let measures = |task: &fs::DirEntry| {
        task.file_name().to_str() == Some(&me)
            || fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "meter")
    };
    let tasks = tasks.flatten().filter(measures);
    let measuring = tasks.map(|task| cpu(&task.path().display().to_string())).sum();
    cpu("/proc/self").saturating_sub(measuring)
}

/// User and system time so far.
pub(crate) fn cpu(of: &str) -> Duration {
    let stat = fs::read_to_string(format!("{of}/stat")).unwrap_or_default();
    // behind the name in brackets, which may hold anything
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
    TICK * (ticks(11) + ticks(12))
}

/// Resident bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}

/// Bytes alive on the heap of a server, after a collection; `None` without a JDK.
pub(crate) fn heap(pid: u32) -> Option<u64> {
    let pid = pid.to_string();
    let output = std::process::Command::new("jcmd").args([&pid, "GC.class_histogram"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().rev().find_map(|line| line.strip_prefix("Total")?.split_whitespace().nth(1)?.parse().ok())
}

//! The mirror against a tree that changes under it, on a clock of the test's own.

use std::collections::BTreeMap;

use super::*;
use crate::registry::{Node, Trouble};

const SERVICES: [&str; 4] = ["user", "calc", "shop", "mail"];
const SEEDS: u64 = 4000;

/// A registry, what is under way between it and the mirror, and the view that the mirror's actions make.
struct World {
    layout: Layout,
    tree: BTreeMap<String, Vec<u8>>,
    /// What the server watches for this session.
    watched: BTreeSet<String>,
    /// On their way to the mirror.
    events: Vec<String>,
    /// Sent, then served (with what was found), then answered.
    reads: Vec<(Batch, Option<Vec<Node>>)>,
    changes: Vec<(Change, bool)>,
    view: BTreeMap<String, Option<Arc<Service>>>,
    mirror: Mirror,
    now: Instant,
    rng: fastrand::Rng,
    attached: bool,
    /// One event in so many is lost, as by a defect; 0: none is.
    loses: u32,
    /// What a snapshot would hold, and what the last one written holds.
    disk: BTreeMap<ServiceName, Vec<Node>>,
    snapshot: BTreeMap<ServiceName, Vec<Node>>,
    drift: u64,
    /// How rarely the connection breaks.
    calm: u32,
}

fn name(service: &str) -> ServiceName {
    ServiceName::new(service).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        Self::of(Layout::Flat, seed)
    }

    fn of(layout: Layout, seed: u64) -> Self {
        let now = Instant::now();
        let (tree, watched, view) = Default::default();
        Self {
            layout,
            tree,
            watched,
            events: Vec::new(),
            reads: Vec::new(),
            changes: Vec::new(),
            view,
            mirror: Mirror::new(layout, 0, fastrand::Rng::with_seed(seed), now),
            now,
            rng: fastrand::Rng::with_seed(!seed),
            attached: false,
            loses: 0,
            disk: BTreeMap::new(),
            snapshot: BTreeMap::new(),
            drift: 0,
            calm: fastrand::Rng::with_seed(seed).u32(1..10),
        }
    }

    fn nodes<'s>(&self, services: impl IntoIterator<Item = &'s ServiceName>) -> Vec<Node> {
        let scopes: Vec<_> = services.into_iter().flat_map(|s| self.layout.scopes(s)).collect();
        let below = |path: &str| {
            scopes.iter().any(|s| {
                path == s.path || path.strip_prefix(&s.path).is_some_and(|rest| rest.starts_with('/'))
            })
        };
        let found = self.tree.iter().filter(|(path, _)| below(path));
        found
            .map(|(path, data)| Node { path: path.clone(), data: Ok(data.clone()), ephemeral: false })
            .collect()
    }

    fn write(&mut self) {
        let service = SERVICES[self.rng.usize(..SERVICES.len())];
        let (api, port) = (self.rng.u8(..3), self.rng.u8(1..6));
        let path = match (self.layout, self.rng.u8(..4)) {
            (Layout::Flat, 0) => format!("/service/{service}"),
            (Layout::Flat, 1) => format!("/api/{service}/a{api}"),
            (Layout::Flat, _) => format!("/address/{service}/10.0.0.{port}:80"),
            (Layout::Tree, 0) => format!("/services/{service}"),
            (Layout::Tree, 1) => format!("/services/{service}/a{api}"),
            (Layout::Tree, _) => format!("/services/{service}/a{api}/providers/10.0.0.{port}:80"),
        };
        if self.rng.u8(..3) == 0 {
            self.tree.remove(&path);
        } else {
            let data = ["{}", "", "{\"weight\":7}", "{broken", "[]"][self.rng.usize(..5)];
            self.tree.insert(path.clone(), data.into());
        }
        let heard = self.watched.iter().any(|watched| path.starts_with(watched.as_str()));
        if heard && (self.loses == 0 || self.rng.u32(..self.loses) > 0) {
            // events may come twice, never unasked for
            self.events.extend(std::iter::repeat_n(path, self.rng.usize(1..3)));
        }
    }

    fn act(&mut self) {
        for action in self.mirror.poll(self.now) {
            match action {
                Action::Read(batch) => self.reads.push((batch, None)),
                Action::Watch(change) => self.changes.push((change, false)),
                Action::Publish(service, found) => drop(self.view.insert(service.to_string(), found)),
                Action::Forget(service) => {
                    self.disk.remove(&service);
                    self.view.remove(service.as_str());
                }
                Action::Drift(_) => self.drift += 1,
                Action::Keep(service, nodes) => drop(self.disk.insert(service, nodes)),
                Action::Settle(..) | Action::Confirm(_) => {}
            }
        }
    }

    /// The server does some of what it was asked, in any order.
    fn serve(&mut self, all: bool) {
        for at in 0..self.reads.len() {
            if self.reads[at].1.is_none() && (all || self.rng.bool()) {
                let found = self.nodes(&self.reads[at].0.services);
                self.reads[at].1 = Some(found);
            }
        }
        for at in 0..self.changes.len() {
            if !self.changes[at].1 && (all || self.rng.bool()) {
                self.changes[at].1 = true;
                self.watched.extend(self.changes[at].0.add.iter().cloned());
            }
        }
    }

    /// Some answers and events arrive, in any order; now and then one says that it failed.
    fn arrive(&mut self, all: bool) {
        for _ in 0..if all { self.events.len() } else { self.rng.usize(..=self.events.len()) } {
            let path = self.events.swap_remove(self.rng.usize(..self.events.len()));
            self.mirror.changed(&path, self.now);
        }
        for at in (0..self.reads.len()).rev() {
            if self.reads[at].1.is_some() && (all || self.rng.bool()) {
                let (batch, found) = self.reads.swap_remove(at);
                let fails = !all && self.rng.u8(..8) == 0;
                let outcome = found.filter(|_| !fails).ok_or_else(|| self.trouble());
                self.mirror.read(&batch, outcome, self.now);
            }
        }
        for at in (0..self.changes.len()).rev() {
            if self.changes[at].1 && (all || self.rng.bool()) {
                let (change, _) = self.changes.swap_remove(at);
                let fails = !all && self.rng.u8(..8) == 0;
                let added =
                    if fails { &change.add[..self.rng.usize(..=change.add.len())] } else { &change.add };
                let in_time = self.mirror.watched(change.serial, added, self.now);
                if in_time && added.len() == change.add.len() {
                    self.watched.retain(|path| !change.drop.contains(path));
                }
            }
        }
    }

    fn trouble(&mut self) -> Trouble {
        let reason = "lost".to_owned();
        if self.rng.bool() { Trouble::Unknown(reason) } else { Trouble::Refused(reason) }
    }

    fn step(&mut self) {
        // some worlds break all the time, some hardly ever
        match self.rng.u32(..30 * self.calm) {
            0 => self.detach(),
            1 => self.crash(),
            _ => {}
        }
        match self.rng.u8(..26) {
            0..2 => self.attach(),
            2..5 => {
                let service = name(SERVICES[self.rng.usize(..SERVICES.len())]);
                self.mirror.want(&service, self.now);
            }
            5..12 => self.serve(false),
            12..20 => self.arrive(false),
            _ => self.write(),
        }
        self.now += Duration::from_millis(self.rng.u64(..60));
        self.act();
        if self.rng.u8(..10) == 0 && self.mirror.is_true(self.now) {
            self.snapshot = self.disk.clone();
        }
    }

    /// The client forgets its watches, what is under way is lost, and changes meanwhile are not heard of.
    fn detach(&mut self) {
        self.mirror.detached(self.now, "it is away");
        self.watched.clear();
        self.events.clear();
        // what was asked before may still be answered, or never be
        if self.rng.bool() {
            self.reads.iter_mut().for_each(|(_, found)| *found = found.take().or(Some(Vec::new())));
            let reads = std::mem::take(&mut self.reads);
            for (batch, _) in reads {
                self.mirror.read(&batch, Err(Trouble::Unknown("the connection broke".into())), self.now);
            }
        }
        for (change, _) in std::mem::take(&mut self.changes) {
            self.mirror.watched(change.serial, &[], self.now);
        }
        self.attached = false;
    }

    /// The process starts anew and knows nothing but what it wrote.
    fn crash(&mut self) {
        let rng = fastrand::Rng::with_seed(self.rng.u64(..));
        self.mirror = Mirror::new(self.layout, 0, rng, self.now);
        (self.watched, self.events, self.reads) = Default::default();
        (self.changes, self.view, self.disk) = Default::default();
        self.attached = false;
        let snapshot = if self.rng.bool() { self.snapshot.clone() } else { BTreeMap::new() };
        for (service, nodes) in snapshot {
            self.mirror.restore(&service, &nodes, self.now);
        }
    }

    fn attach(&mut self) {
        if !self.attached {
            self.attached = true;
            let storm = self.rng.bool();
            self.mirror.attached(self.now, storm, |_| true);
        }
    }

    /// Nothing happens any more for as long as it takes to hear, read and compare everything.
    fn settle(&mut self) {
        self.settle_for(Duration::from_secs(150));
    }

    fn settle_for(&mut self, time: Duration) {
        self.attach();
        let end = self.now + time;
        while self.now < end {
            self.act();
            self.serve(true);
            self.arrive(true);
            self.act();
            self.mirror.sweep(self.now, |_| true);
            let soon = self.now + Duration::from_millis(1);
            self.now = self.mirror.wake().clamp(soon, soon + Duration::from_secs(5));
        }
    }

    fn assert_true(&self, seed: u64) {
        assert!(self.mirror.is_true(self.now), "seed {seed}");
        for (service, nodes) in self.disk.iter().filter(|(_, nodes)| !nodes.is_empty()) {
            let there = self.nodes([service]);
            assert!(
                there.iter().all(|node| nodes.contains(node)) && nodes.len() == there.len(),
                "seed {seed}"
            );
        }
        for service in SERVICES {
            let service = name(service);
            let Some(seen) = self.view.get(service.as_str()) else { continue };
            // one that is not there is remembered as absent for a while, without a watch
            let live = self.mirror.subs.get(&service).is_some_and(|sub| sub.stage == Stage::Live);
            if seen.is_none() && !live {
                continue;
            }
            let there = self.layout.parse(&service, &self.nodes([&service]), seen.as_deref());
            assert_eq!(
                seen.as_deref(),
                there.as_ref(),
                "seed {seed}, {service}: SIMULATION_SEED={seed} replays it"
            );
        }
    }
}

/// The seeds of this run: `SIMULATION_SEED` alone, or as many as `SIMULATION_SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn after_any_faults_the_view_equals_the_tree() {
    for seed in seeds() {
        let layout = if seed % 2 == 0 { Layout::Flat } else { Layout::Tree };
        let mut world = World::of(layout, seed);
        for _ in 0..300 {
            world.step();
        }
        world.settle();
        world.assert_true(seed);
        assert_eq!(world.drift, 0, "seed {seed} replays it");
    }
}

#[test]
fn what_a_lost_event_leaves_wrong_is_found_and_counted() {
    let mut drift = 0;
    for seed in seeds().take(100) {
        let mut world = World { loses: 4, ..World::new(seed) };
        for _ in 0..300 {
            world.step();
        }
        world.settle_for(Duration::from_secs(1200));
        world.assert_true(seed);
        drift += world.drift;
    }
    assert!(drift > 0 || seeds().count() == 1);
}

#[test]
fn a_comparison_soon_after_a_reconnect_takes_no_news_for_drift() {
    for seed in 0..50 {
        let mut world = World { calm: 100, ..World::new(seed) };
        (0..200).for_each(|_| world.step());
        world.settle();
        world.detach();
        (0..20).for_each(|_| world.write());
        world.events.clear();
        // the comparison falls between the watches and the reads that follow them
        world.now = world.mirror.audit.wake() - Duration::from_millis(2);
        world.settle();
        world.assert_true(seed);
        assert_eq!(world.drift, 0, "seed {seed}");
    }
}

#[test]
fn a_change_that_was_heard_of_and_is_not_read_yet_is_no_drift() {
    for seed in 0..50 {
        let mut world = World { calm: 100, ..World::new(seed) };
        (0..200).for_each(|_| world.step());
        world.settle();
        // its event comes just before the comparison, its read just after it
        world.now = world.mirror.audit.wake() - Duration::from_millis(2);
        (0..5).for_each(|_| world.write());
        world.arrive(true);
        world.settle();
        world.assert_true(seed);
        assert_eq!(world.drift, 0, "seed {seed}");
    }
}

#[test]
fn callers_of_a_new_service_share_one_load() {
    let mut world = World::new(1);
    world.tree.insert("/service/user".into(), b"{}".to_vec());
    world.attach();
    for _ in 0..100 {
        world.mirror.want(&name("user"), world.now);
    }
    world.act();
    assert_eq!(world.reads.len(), 1);
}

#[test]
fn many_events_at_once_are_read_at_another_time_by_every_sidecar() {
    let mut delays = BTreeSet::new();
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.tree.insert("/service/user".into(), "{}".into());
        world.attach();
        world.mirror.want(&name("user"), world.now);
        world.settle();
        (0..1000).for_each(|_| world.mirror.changed("/service/user", world.now));
        delays.insert(world.mirror.wake() - world.now);
    }
    let spread = *delays.last().unwrap() - *delays.first().unwrap();
    assert!(spread > Duration::from_millis(50), "{delays:?}");
}

/// 200 services that are in the view, and the reads until all were read again.
fn reads_of_200(mut after: impl FnMut(&mut World)) -> usize {
    let mut world = World::new(1);
    world.attach();
    for n in 0..200 {
        world.tree.insert(format!("/service/s{n}"), b"{}".to_vec());
        world.mirror.want(&name(&format!("s{n}")), world.now);
    }
    world.settle_for(Duration::from_secs(60));
    world.detach();
    world.attach();
    let (mut reads, begun) = (0, world.now);
    // long before the next comparison
    while world.now < begun + Duration::from_secs(20) {
        world.act();
        reads += world.reads.len();
        after(&mut world);
        world.serve(true);
        world.arrive(true);
        world.now += Duration::from_millis(5);
    }
    assert!(world.mirror.is_true(world.now));
    reads
}

#[test]
fn after_a_reconnect_services_are_read_many_at_once() {
    let reads = reads_of_200(|_| {});
    assert!(reads < 10, "{reads} reads");
}

#[test]
fn slow_servers_are_not_asked_for_each_service_alone() {
    let mut slow = 8;
    let reads = reads_of_200(|world| {
        while slow > 0
            && let Some((batch, _)) = world.reads.pop()
        {
            slow -= 1;
            world.mirror.read(&batch, Err(Trouble::Unknown("no answer within 5 s".into())), world.now);
        }
    });
    assert!(reads < 40, "{reads} reads");
}

#[test]
fn one_that_is_refused_takes_no_other_down() {
    let refused = name("s7");
    let mut times = 0;
    let reads = reads_of_200(|world| {
        let at = world.reads.iter().position(|(batch, _)| batch.services.contains(&refused));
        if let Some(at) = at
            && times < 10
        {
            let (batch, _) = world.reads.remove(at);
            times += 1;
            world.mirror.read(&batch, Err(Trouble::Refused("no".into())), world.now);
            let alone = batch.services.len() == 1;
            assert!(alone || times == 1, "{} go with it", batch.services.len());
        }
    });
    assert!(times == 10 && reads < 80, "{reads} reads");
}

#[test]
fn a_big_service_that_changes_all_the_time_leaves_requests_to_others() {
    let mut world = World::new(1);
    world.tree.insert("/service/user".into(), "{}".into());
    world.attach();
    world.mirror.want(&name("user"), world.now);
    world.settle();
    let (mut reads, mut due) = (0, None);
    for _ in 0..2000 {
        world.mirror.changed("/service/user", world.now);
        world.now += Duration::from_millis(5);
        world.act();
        if due.is_none() && !world.reads.is_empty() {
            reads += 1;
            due = Some(world.now + Duration::from_millis(90));
        }
        if due.is_some_and(|due| due <= world.now) {
            due = None;
            world.serve(true);
            world.arrive(true);
        }
    }
    assert!((8..=12).contains(&reads), "{reads} reads of 90 ms in 10 s");
}

#[test]
fn a_service_that_is_not_there_is_neither_kept_nor_watched() {
    let mut world = World::new(1);
    world.attach();
    for n in 0..1000 {
        world.mirror.want(&name(&format!("nobody-{n}")), world.now);
    }
    world.settle();
    world.settle();
    assert_eq!(world.mirror.size(), (0, (0, 0)));
    assert!(world.view.values().all(Option::is_none) && world.view.len() == 1000);
}

#[test]
fn above_the_limit_of_watched_paths_the_few_roots_are_watched() {
    let mut world = World::new(1);
    world.attach();
    for n in 0..2000 {
        world.tree.insert(format!("/service/service-number-{n}"), b"{}".to_vec());
        world.mirror.want(&name(&format!("service-number-{n}")), world.now);
    }
    for _ in 0..20 {
        world.settle();
    }
    let (services, (paths, bytes)) = world.mirror.size();
    assert_eq!(services, 2000);
    assert!(paths < 10 && bytes < 96 << 10, "{paths} paths, {bytes} bytes");
}

#[test]
fn without_the_registry_callers_of_a_new_service_are_told_soon() {
    let mut world = World::new(1);
    world.mirror.want(&name("user"), world.now);
    assert!(world.mirror.poll(world.now).is_empty());
    let told = world.mirror.poll(world.now + PATIENCE);
    assert!(matches!(told.as_slice(), [Action::Settle(_, Err(_))]), "{told:?}");
}

#[test]
fn a_service_nobody_calls_is_dropped_with_its_watches() {
    let mut world = World::new(1);
    world.tree.insert("/service/user".into(), b"{}".to_vec());
    world.attach();
    world.mirror.want(&name("user"), world.now);
    world.settle();
    assert!(world.watched.contains("/service/user"));
    world.now += SWEEP;
    world.mirror.sweep(world.now, |_| true);
    for minute in 1..=10 {
        world.act();
        assert!(world.view.contains_key("user"), "dropped after {minute} minutes");
        world.now += SWEEP;
        world.mirror.sweep(world.now, |_| false);
    }
    world.settle();
    assert!(!world.view.contains_key("user") && world.watched.is_empty(), "{:?}", world.watched);
}

#[test]
fn a_watch_that_failed_and_is_no_longer_wanted_wakes_nobody() {
    let mut world = World::new(1);
    world.tree.insert("/service/user".into(), b"{}".to_vec());
    world.attach();
    world.mirror.want(&name("user"), world.now);
    world.act();
    let (batch, _) = world.reads.pop().unwrap();
    let (service, nodes) = (batch.services[0].clone(), world.nodes(&batch.services));
    world.mirror.read(&batch, Ok(nodes), world.now);
    let actions = world.mirror.poll(world.now);
    let [Action::Watch(change)] = actions.as_slice() else { panic!("{actions:?}") };
    world.mirror.watched(change.serial, &[], world.now);
    world.mirror.remove(&service);
    world.now += Duration::from_secs(5);
    assert!(world.mirror.poll(world.now).is_empty());
    assert!(world.mirror.wake() > world.now);
}

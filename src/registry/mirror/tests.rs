//! The mirror against a tree that changes under it, on a clock of the test's own.

use std::collections::BTreeMap;

use super::*;
use crate::registry::Node;

const SERVICES: [&str; 4] = ["user", "calc", "shop", "mail"];
const SEEDS: u64 = 300;

/// A registry, the watches set on it, and the view that the mirror's actions make.
struct World {
    tree: BTreeMap<String, Vec<u8>>,
    watched: BTreeSet<String>,
    view: BTreeMap<String, Option<Service>>,
    mirror: Mirror,
    now: Instant,
    rng: fastrand::Rng,
    /// Reads that were sent and are not answered yet.
    reads: Vec<Batch>,
    attached: bool,
}

fn name(service: &str) -> ServiceName {
    ServiceName::new(service).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mirror = Mirror::new(Layout::Flat, 0, fastrand::Rng::with_seed(seed), now);
        let rng = fastrand::Rng::with_seed(!seed);
        let (tree, watched, view) = Default::default();
        Self { tree, watched, view, mirror, now, rng, reads: Vec::new(), attached: false }
    }

    fn nodes<'s>(&self, services: impl IntoIterator<Item = &'s ServiceName>) -> Vec<Node> {
        let scopes: Vec<_> = services.into_iter().flat_map(|s| Layout::Flat.scopes(s)).collect();
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
        let path = match self.rng.u8(..3) {
            0 => format!("/service/{service}"),
            1 => format!("/api/{service}/a{}", self.rng.u8(..3)),
            _ => format!("/address/{service}/10.0.0.{}:80", self.rng.u8(1..4)),
        };
        if self.rng.u8(..3) == 0 {
            self.tree.remove(&path);
        } else {
            let data = ["{}", "", "{\"weight\":7}", "{broken", "[]"][self.rng.usize(..5)];
            self.tree.insert(path.clone(), data.into());
        }
        let heard = self.watched.iter().any(|watched| path.starts_with(watched.as_str()));
        // events may come twice, never unasked for
        for _ in 0..if heard { self.rng.usize(1..3) } else { 0 } {
            self.mirror.changed(&path, self.now);
        }
    }

    fn act(&mut self) {
        for action in self.mirror.poll(self.now) {
            match action {
                Action::Read(batch) => self.reads.push(batch),
                Action::Watch(change) => {
                    self.watched.retain(|path| !change.drop.contains(path));
                    self.watched.extend(change.add.iter().cloned());
                    self.mirror.watched(change.serial, &change.add, self.now);
                }
                Action::Publish(service, found) => drop(self.view.insert(service.to_string(), found)),
                Action::Forget(service) => drop(self.view.remove(service.as_str())),
                Action::Settle(..) | Action::Confirm(_) => {}
                Action::Drift(service) => panic!("{service} drifted"),
            }
        }
    }

    /// Answers some of the reads under way, in any order; now and then one fails.
    fn answer(&mut self, all: bool) {
        let mut left = if all { self.reads.len() } else { self.rng.usize(..=self.reads.len()) };
        while left > 0 {
            left -= 1;
            let batch = self.reads.swap_remove(self.rng.usize(..self.reads.len()));
            let fails = !all && self.rng.u8(..8) == 0;
            let outcome = if fails { Err("lost".to_owned()) } else { Ok(self.nodes(&batch.services)) };
            self.mirror.read(&batch, outcome, self.now);
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..12) {
            0 => {
                self.mirror.detached(self.now);
                // the client forgets its watches, and changes meanwhile are not heard of
                self.watched.clear();
                self.attached = false;
            }
            1 | 2 => self.attach(),
            3 | 4 => {
                let service = name(SERVICES[self.rng.usize(..SERVICES.len())]);
                self.mirror.want(&service, self.now);
            }
            5 | 6 => self.answer(false),
            _ => self.write(),
        }
        self.now += Duration::from_millis(self.rng.u64(..60));
        self.act();
    }

    fn attach(&mut self) {
        if !self.attached {
            self.attached = true;
            let storm = self.rng.bool();
            self.mirror.attached(self.now, storm, |_| true);
        }
    }

    fn settle(&mut self) {
        self.attach();
        for _ in 0..200 {
            self.act();
            self.answer(true);
            self.now += Duration::from_millis(50);
        }
        // what vanished at once is kept no longer
        self.now += Duration::from_secs(120);
        self.act();
    }
}

#[test]
fn after_any_faults_the_view_equals_the_tree() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
        world.settle();
        for service in SERVICES {
            let Some(Some(seen)) = world.view.get(service) else { continue };
            let service = name(service);
            let there = Layout::Flat.parse(&service, &world.nodes([&service]), Some(seen));
            assert_eq!(Some(seen), there.as_ref(), "seed {seed}, {service}");
        }
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
    let batch = world.reads.pop().unwrap();
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

//! Asks the providers of the view whether they live: those of services with `health`, and those that
//! took no connection, whom no call goes to meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Streak, ask};
use crate::directory::{Directory, Entry};
use crate::health::{Cause, State};
use crate::model::{Ask, Circuit, Health, Policy};
use crate::names::ServiceName;
use crate::peer::Peer;
use crate::socket::stopped;

/// How often it is looked whether a check is due.
const TICK: Duration = Duration::from_millis(100);
/// Checks under way at once.
const MOST: usize = 64;
/// How a provider is asked that took no connection, where its service has no `health`.
static RECONNECT: Health = Health {
    ask: Ask::Tcp,
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    rise: 1,
    fall: 1,
};

/// Checks providers until `stop`.
pub async fn peers(directory: Arc<Directory>, mut stop: watch::Receiver<bool>) {
    let (mut rounds, mut asking) = (Rounds::default(), JoinSet::new());
    let mut generation = 0;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            Some(ended) = asking.join_next() => if let Ok((of, found)) = ended {
                rounds.note(of, found, Instant::now());
            },
            _ = ticks.tick() => {
                let now = Instant::now();
                let current = directory.generation();
                if generation != current {
                    generation = current;
                    rounds.follow(directory.list());
                }
                for (service, check) in rounds.due(now, MOST - asking.len()) {
                    asking.spawn(async move {
                        let (key, found) = check.run().await;
                        ((service, key), found)
                    });
                }
            }
        }
    }
}

/// The services of the view; one is looked at when it changed, or the health of one of its providers did.
#[derive(Debug, Default)]
struct Rounds(BTreeMap<ServiceName, Round>);

#[derive(Debug)]
struct Round {
    entry: Arc<Entry>,
    /// What its board said when it was looked at last.
    seen: Option<u64>,
    agenda: Agenda,
}

impl Rounds {
    fn follow(&mut self, view: BTreeMap<ServiceName, Arc<Entry>>) {
        let mut before = std::mem::take(&mut self.0);
        for (name, entry) in view {
            let round = match before.remove(&name) {
                Some(round) if Arc::ptr_eq(&round.entry, &entry) => round,
                Some(round) => Round { entry, seen: None, ..round },
                None => Round { entry, seen: None, agenda: Agenda::default() },
            };
            self.0.insert(name, round);
        }
    }

    /// At most `most` checks that are due, those first that are due for longest.
    fn due(&mut self, now: Instant, most: usize) -> Vec<(ServiceName, Check)> {
        self.0.values_mut().for_each(|round| round.look(now));
        let rounds = self.0.iter_mut();
        let all = rounds.flat_map(|(name, round)| round.agenda.all_due(now).map(move |due| (name, due)));
        let mut due: Vec<_> = all.collect();
        due.sort_unstable_by_key(|(_, (_, target))| target.next);
        let check =
            |(name, (key, target)): (&ServiceName, (&Key, &mut Target))| (name.clone(), target.ask(key, now));
        due.into_iter().take(most).map(check).collect()
    }

    fn note(&mut self, (service, key): (ServiceName, Key), found: Found, now: Instant) {
        if let Some(round) = self.0.get_mut(&service) {
            round.agenda.note(key, found, now);
        }
    }
}

impl Round {
    /// Looks who is there, if that may have changed.
    fn look(&mut self, now: Instant) {
        let generation = self.entry.board.generation();
        if self.seen != Some(generation) {
            self.seen = Some(generation);
            self.agenda.follow(subjects(&self.entry).into_iter(), now);
        }
    }
}

/// A provider and how it is checked.
#[derive(Debug)]
struct Subject {
    service: ServiceName,
    peer: Arc<Peer>,
    /// `None`: only while it is known to take no connections.
    check: Option<Health>,
    rules: Circuit,
}

/// Every provider of a service that may take calls, in each way that somebody wants it asked: the service
/// first, then its APIs by name.
fn subjects(entry: &Entry) -> Vec<Subject> {
    let subject = |peer: &Arc<Peer>, policy: &Policy| Subject {
        service: entry.name.clone(),
        peer: peer.clone(),
        check: policy.health.clone(),
        rules: policy.circuit,
    };
    let shared = entry.pool.peers().map(|peer| subject(peer, &entry.policy));
    let asks = |policy: &Policy| policy.health.is_some() && policy.health != entry.policy.health;
    let mut own: Vec<_> = entry.all_routes().collect();
    own.retain(|route| route.api.providers.is_some() || asks(&route.policy));
    own.sort_unstable_by_key(|route| &route.name);
    let own = own.into_iter().flat_map(|route| route.pool.peers().map(|peer| subject(peer, &route.policy)));
    shared.chain(own).collect()
}

/// What a check found; of php-fpm's status page, how many processes are all busy while calls wait.
type Found = Result<Option<u32>, String>;

/// One check to be made.
#[derive(Debug)]
struct Check {
    key: Key,
    peer: Arc<Peer>,
    health: Health,
}

impl Check {
    async fn run(self) -> (Key, Found) {
        let address = &self.peer.address;
        let asked = ask(address, &self.health.ask);
        let found = tokio::time::timeout(self.health.timeout, asked).await;
        (self.key, found.unwrap_or_else(|_| Err("no answer in time".into())))
    }
}

/// A peer by its place, as it lives as long as it is known, and what it is asked.
type Key = (usize, Option<Ask>);

/// When who of one service is asked, and what became of it; takes the time as an argument.
///
/// Has nothing of providers that nobody asks: they may be a hundred thousand.
#[derive(Debug, Default)]
struct Agenda(HashMap<Key, Target>);

#[derive(Debug)]
struct Target {
    subject: Subject,
    streak: Streak,
    next: Instant,
    asking: bool,
}

impl Agenda {
    /// Takes over who is in the view now; what is known of those who stay is kept. Of two that ask a
    /// provider the same, the first says how often.
    fn follow(&mut self, subjects: impl Iterator<Item = Subject>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        let (checked, others): (Vec<_>, Vec<_>) = subjects.partition(|subject| subject.check.is_some());
        let places: HashSet<_> = checked.iter().map(Subject::place).collect();
        let asked = |subject: &Subject| !subject.peer.is_closed() && !places.contains(&subject.place());
        let others = others.into_iter().filter(asked);
        for subject in checked.into_iter().chain(others) {
            let key = (subject.place(), subject.check.as_ref().map(|check| check.ask.clone()));
            if self.0.contains_key(&key) {
                continue;
            }
            let target = match before.remove(&key) {
                Some(target) if target.subject.check == subject.check => Target { subject, ..target },
                Some(target) => Target { asking: target.asking, ..Target::new(subject, now) },
                None => Target::new(subject, now),
            };
            self.0.insert(key, target);
        }
        for (key, target) in before {
            self.ends(&key, &target, now);
        }
    }

    /// A check is not made any more: what it found does not last.
    fn ends(&self, key: &Key, target: &Target, now: Instant) {
        let peer = &target.subject.peer;
        if matches!(key.1, Some(Ask::Fpm(_))) {
            peer.queue(None, now);
        }
        let ejected = matches!(peer.state(), State::Open { cause: Cause::Active, .. });
        let is_ill_otherwise = self.is_ill_otherwise(key);
        if !is_ill_otherwise {
            peer.complain(None);
        }
        if target.is_ill() && ejected && !is_ill_otherwise {
            peer.restore(now);
        }
    }

    /// Shows why a check failed, until no check of its provider does.
    fn tell(&self, key: &Key, reason: Option<&str>) {
        let Some(target) = self.0.get(key) else { return };
        if reason.is_some() || !self.is_ill_otherwise(key) {
            target.subject.peer.complain(reason);
        }
    }

    /// Whether another check of the same provider fails.
    fn is_ill_otherwise(&self, key: &Key) -> bool {
        self.0.iter().any(|(other, target)| other.0 == key.0 && other.1 != key.1 && target.is_ill())
    }

    fn all_due(&mut self, now: Instant) -> impl Iterator<Item = (&Key, &mut Target)> {
        self.0.iter_mut().filter(move |(_, target)| target.is_due(now))
    }

    fn note(&mut self, key: Key, found: Found, now: Instant) {
        let Some(target) = self.0.get_mut(&key) else { return };
        target.asking = false;
        let reason = found.as_ref().err().cloned();
        let is_well = target.note(found, now);
        self.tell(&key, reason.as_deref());
        if is_well && !self.is_ill_otherwise(&key) {
            self.0.get(&key).into_iter().for_each(|target| target.restore(now));
        }
    }
}

impl Subject {
    fn place(&self) -> usize {
        Arc::as_ptr(&self.peer) as usize
    }
}

impl Target {
    fn new(subject: Subject, now: Instant) -> Self {
        // sidecars that load the same list must not ask in step
        let (rise, fall, next) = match &subject.check {
            Some(health) => (health.rise, health.fall, now + health.interval.mul_f64(fastrand::f64())),
            None => (1, 1, now),
        };
        Self { subject, streak: Streak::new(rise, fall), next, asking: false }
    }

    /// The check that is due.
    fn ask(&mut self, key: &Key, now: Instant) -> Check {
        self.asking = true;
        let health = self.health().clone();
        self.next = now + jittered(health.interval, fastrand::f64());
        Check { key: key.clone(), peer: self.subject.peer.clone(), health }
    }

    fn health(&self) -> &Health {
        self.subject.check.as_ref().unwrap_or(&RECONNECT)
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.asking
            && now >= self.next
            && (self.subject.check.is_some() || self.subject.peer.waits_for_connect())
    }

    /// Whether enough checks in a row failed.
    fn is_ill(&self) -> bool {
        self.streak.healthy == Some(false)
    }

    /// Notes what a check found; true where it has become well by that.
    fn note(&mut self, found: Found, now: Instant) -> bool {
        let Subject { service, peer, check, rules } = &self.subject;
        let (service, provider) = (service.as_str(), &peer.address);
        if found.is_ok() && peer.reached(now).is_some() {
            tracing::info!(service, %provider, "provider takes connections again");
        }
        let Some(check) = check else { return false };
        if let (Ok(queue), Ask::Fpm(_)) = (&found, &check.ask) {
            peer.queue(*queue, now);
        }
        let changed = self.streak.note(found.is_ok());
        match found {
            Ok(_) => return changed,
            Err(reason) if self.is_ill() => {
                // each time: once nobody checks any more, a call does
                if peer.eject(rules, now).is_some() {
                    tracing::warn!(service, %provider, cause = "active", reason, "provider is left alone");
                }
            }
            Err(_) => {}
        }
        false
    }

    /// No check of it fails any more.
    fn restore(&self, now: Instant) {
        let Subject { service, peer, .. } = &self.subject;
        if peer.restore(now).is_some() {
            tracing::info!(service = service.as_str(), provider = %peer.address, "provider is well by its health check");
        }
    }
}

/// A tenth more or less.
fn jittered(interval: Duration, chance: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Fault;
    use crate::model::{Provider, Service};
    use crate::names::Address;
    use crate::peer::Outcome;
    use crate::telemetry::Telemetry;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(now: Instant) -> Arc<Peer> {
        Peer::new(Address::new("10.0.0.5:80").unwrap(), Arc::default(), now, false)
    }

    impl Agenda {
        fn due(&mut self, now: Instant, most: usize) -> Vec<Check> {
            let mut due: Vec<_> = self.all_due(now).collect();
            due.sort_unstable_by_key(|(_, target)| target.next);
            due.into_iter().take(most).map(|(key, target)| target.ask(key, now)).collect()
        }
    }

    fn provider(address: &str) -> Provider {
        Provider {
            address: Address::new(address).unwrap(),
            weight: 100,
            idc: None,
            state: crate::model::State::On,
            tags: None,
            max_connections: None,
            ephemeral: true,
            listed: false,
            held: false,
        }
    }

    fn subject(peer: &Arc<Peer>, check: Option<Health>) -> Subject {
        let service = ServiceName::new("user").unwrap();
        Subject { service, peer: peer.clone(), check, rules: Circuit::default() }
    }

    fn fail(peer: &Arc<Peer>, fault: Fault, now: Instant) {
        for _ in 0..5 {
            peer.enter(now).record(Outcome::bad(fault), &Circuit::default(), now, || true);
        }
        assert!(!peer.is_closed());
    }

    /// Checks what is due and says what is found; how many were due.
    fn step(agenda: &mut Agenda, found: &Found, now: Instant) -> usize {
        let due = agenda.due(now, MOST);
        assert!(agenda.due(now, MOST).is_empty(), "one check at a time");
        due.iter().for_each(|check| agenda.note(check.key.clone(), found.clone(), now));
        due.len()
    }

    #[test]
    fn without_health_only_those_that_took_no_connection_are_asked() {
        let now = Instant::now();
        let (deaf, ill) = (peer(now), peer(now));
        let mut agenda = Agenda::default();
        let both = || [subject(&deaf, None), subject(&ill, None)].into_iter();
        agenda.follow(both(), now);
        assert_eq!((step(&mut agenda, &Ok(None), now), agenda.0.len()), (0, 0));
        fail(&deaf, Fault::Unreached, now);
        fail(&ill, Fault::Status, now);
        agenda.follow(both(), now);
        assert_eq!(step(&mut agenda, &Err("refused".into()), now), 1);
        assert_eq!(step(&mut agenda, &Ok(None), now + SECOND), 0, "not before its interval");
        assert_eq!(step(&mut agenda, &Ok(None), now + 3 * SECOND), 1);
        assert!(deaf.is_closed() && !ill.is_closed());
    }

    #[test]
    fn who_takes_no_connection_is_asked_though_the_view_stays_as_it_is() {
        let now = Instant::now();
        let (directory, _) = Directory::new(Policy::default(), None, Telemetry::new().unwrap());
        let name = ServiceName::new("user").unwrap();
        let providers = ["10.0.0.5:80", "10.0.0.6:80"].map(provider).into();
        directory.publish(&name, Some(Service { providers, ..Service::default() }.into()));
        let mut rounds = Rounds::default();
        rounds.follow(directory.list());
        assert!(rounds.due(now, MOST).is_empty());
        let entry = directory.known(&name).unwrap();
        let peer = entry.peers().get(&Address::new("10.0.0.6:80").unwrap()).unwrap();
        fail(peer, Fault::Unreached, now);
        let (service, check) = rounds.due(now, MOST).pop().unwrap();
        assert!(rounds.due(now, MOST).is_empty() && Arc::ptr_eq(&check.peer, peer));
        rounds.note((service, check.key), Ok(None), now);
        assert!(peer.is_closed() && rounds.due(now + 9 * SECOND, MOST).is_empty());
        assert!(rounds.0[&name].agenda.0.is_empty());
    }

    #[test]
    fn rise_and_fall_decide_and_checks_that_end_leave_nobody_out() {
        let start = Instant::now();
        let (peer, health) = (peer(start), Health { rise: 2, fall: 3, ..RECONNECT.clone() });
        let mut agenda = Agenda::default();
        agenda.follow([subject(&peer, Some(health.clone()))].into_iter(), start);
        let mut now = start;
        let mut seen = Vec::new();
        for good in [false, false, true, false, false, false, false, true, true] {
            now += 3 * SECOND;
            let found = if good { Ok(None) } else { Err("500".into()) };
            assert_eq!(step(&mut agenda, &found, now), 1);
            seen.push(peer.is_closed());
        }
        assert_eq!(seen, [true, true, true, true, true, false, false, false, true]);
        for _ in 0..3 {
            now += 3 * SECOND;
            step(&mut agenda, &Err("500".into()), now);
        }
        assert!(!peer.is_closed());
        agenda.follow([subject(&peer, None)].into_iter(), now);
        assert!(peer.is_closed(), "nobody would ask any more");
        agenda.follow([].into_iter(), now);
        assert!(agenda.0.is_empty());
    }

    #[test]
    fn at_most_so_many_are_asked_at_once_and_a_changed_check_starts_anew() {
        let now = Instant::now();
        let peers: Vec<_> = (0..10).map(|_| peer(now)).collect();
        let mut agenda = Agenda::default();
        let subjects = || peers.iter().map(|peer| subject(peer, Some(RECONNECT.clone())));
        agenda.follow(subjects(), now);
        let later = now + 3 * SECOND;
        assert_eq!((agenda.due(later, 4).len(), agenda.due(later, 64).len()), (4, 6));
        agenda.follow(subjects(), later);
        assert!(agenda.due(later + 9 * SECOND, 64).is_empty(), "they are still being asked");
    }

    #[test]
    fn where_more_are_due_than_can_be_asked_everybody_has_a_turn() {
        let mut now = Instant::now();
        let peers: Vec<_> = (0..10).map(|_| peer(now)).collect();
        let mut agenda = Agenda::default();
        agenda.follow(peers.iter().map(|peer| subject(peer, Some(RECONNECT.clone()))), now);
        let mut asked = HashMap::new();
        for _ in 0..6 {
            now += 3 * SECOND;
            for check in agenda.due(now, 5) {
                *asked.entry(check.key.clone()).or_insert(0) += 1;
                agenda.note(check.key, Ok(None), now);
            }
        }
        assert_eq!(asked.values().copied().collect::<Vec<_>>(), [3; 10]);
    }

    #[test]
    fn one_that_is_asked_in_two_ways_is_well_when_neither_fails() {
        let start = Instant::now();
        let peer = peer(start);
        let asked =
            |path: &str| Health { ask: Ask::Http(path.into()), fall: 1, rise: 1, ..RECONNECT.clone() };
        let checks = [asked("/a"), asked("/b"), Health { interval: SECOND, ..asked("/b") }];
        let subjects = |checks: &[Health]| -> Vec<_> {
            std::iter::once(subject(&peer, None))
                .chain(checks.iter().map(|check| subject(&peer, Some(check.clone()))))
                .collect()
        };
        let (mut agenda, mut now) = (Agenda::default(), start);
        agenda.follow(subjects(&checks).into_iter(), now);
        let mut seen = Vec::new();
        for ill in ["/a", "/b", "", "/b"] {
            now += 3 * SECOND;
            let due = agenda.due(now, MOST);
            assert_eq!(due.len(), 2, "one that asks the same is one check, and nobody else connects");
            for check in due {
                let is_ill = check.health.ask == Ask::Http(ill.into());
                let found = if is_ill { Err("500".into()) } else { Ok(None) };
                agenda.note(check.key, found, now);
            }
            seen.push(peer.is_closed());
        }
        assert_eq!(seen, [false, false, true, false]);
        agenda.follow(subjects(&checks[..1]).into_iter(), now);
        assert!(peer.is_closed(), "the check that failed is not made any more");
    }

    #[test]
    fn calls_that_wait_at_php_fpm_are_told_to_the_peer() {
        let now = Instant::now();
        let peer = peer(now);
        let mut agenda = Agenda::default();
        let fpm = Health { ask: Ask::Fpm("/status".into()), ..RECONNECT.clone() };
        agenda.follow([subject(&peer, Some(fpm)), subject(&peer, Some(RECONNECT.clone()))].into_iter(), now);
        step(&mut agenda, &Ok(Some(5)), now + 3 * SECOND);
        assert_eq!((peer.queues(), peer.room()), (true, Some(5)));
        agenda.follow([subject(&peer, None)].into_iter(), now);
        assert_eq!((peer.queues(), peer.room()), (false, None));
    }
}

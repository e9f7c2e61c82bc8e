//! Asks the providers of the view whether they live: those of services with `health`, and those that
//! took no connection, whom no call goes to meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Streak, ask};
use crate::directory::{Directory, Entry};
use crate::health::{Cause, State};
use crate::model::{Ask, Circuit, Health};
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
    let (mut agenda, mut asking) = (Agenda::default(), JoinSet::new());
    let mut generation = 0;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            Some(ended) = asking.join_next() => if let Ok((key, answer)) = ended {
                agenda.note(key, answer, Instant::now());
            },
            _ = ticks.tick() => {
                let now = Instant::now();
                let current = directory.generation();
                if generation != current {
                    generation = current;
                    agenda.follow(directory.list().values().flat_map(|entry| subjects(entry)), now);
                }
                for check in agenda.due(now, MOST - asking.len()) {
                    asking.spawn(check.run());
                }
            }
        }
    }
}

/// A provider and how it is checked.
#[derive(Debug)]
struct Subject {
    service: String,
    peer: Arc<Peer>,
    /// `None`: only while it is known to take no connections.
    check: Option<Health>,
    rules: Circuit,
}

/// Every provider of a service that may take calls; one that APIs share as the last of them says.
fn subjects(entry: &Entry) -> Vec<Subject> {
    let subject = |peer: &Arc<Peer>, policy: &crate::model::Policy| Subject {
        service: entry.name.to_string(),
        peer: peer.clone(),
        check: policy.health.clone(),
        rules: policy.circuit,
    };
    let shared = entry.pool.peers().map(|peer| subject(peer, &entry.policy));
    let own = entry.all_routes().filter(|route| route.api.providers.is_some());
    let own = own.flat_map(|route| route.pool.peers().map(|peer| subject(peer, &route.policy)));
    shared.chain(own).collect()
}

/// What a check found; of php-fpm's status page, how many processes are all busy while calls wait.
type Found = Result<Option<u32>, String>;

/// One check to be made.
#[derive(Debug)]
struct Check {
    key: usize,
    peer: Arc<Peer>,
    health: Health,
}

impl Check {
    async fn run(self) -> (usize, Found) {
        let address = &self.peer.address;
        let asked = ask(address, &self.health.ask);
        let found = tokio::time::timeout(self.health.timeout, asked).await;
        (self.key, found.unwrap_or_else(|_| Err("no answer in time".into())))
    }
}

/// When who is asked, and what became of it; takes the time as an argument.
#[derive(Debug, Default)]
struct Agenda(HashMap<usize, Target>);

#[derive(Debug)]
struct Target {
    subject: Subject,
    streak: Streak,
    next: Instant,
    asking: bool,
}

impl Agenda {
    /// Takes over who is in the view now; what is known of those who stay is kept.
    fn follow(&mut self, subjects: impl Iterator<Item = Subject>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for subject in subjects {
            // a peer lives as long as it is known, so that its place stands for it
            let key = Arc::as_ptr(&subject.peer) as usize;
            let target = match before.remove(&key) {
                Some(target) if target.subject.check == subject.check => Target { subject, ..target },
                Some(target) => {
                    target.subject.peer.queue(None);
                    Target { asking: target.asking, ..Target::new(subject, now) }
                }
                None => Target::new(subject, now),
            };
            self.0.insert(key, target);
        }
    }

    /// At most `most` checks that are due, those first that are due for longest.
    fn due(&mut self, now: Instant, most: usize) -> Vec<Check> {
        let mut due: Vec<_> = self.0.iter_mut().filter(|(_, target)| target.is_due(now)).collect();
        due.sort_unstable_by_key(|(_, target)| target.next);
        let check = |(key, target): (&usize, &mut Target)| {
            target.asking = true;
            let health = target.health().clone();
            target.next = now + jittered(health.interval, fastrand::f64());
            Check { key: *key, peer: target.subject.peer.clone(), health }
        };
        due.into_iter().take(most).map(check).collect()
    }

    fn note(&mut self, key: usize, found: Found, now: Instant) {
        let Some(target) = self.0.get_mut(&key) else { return };
        target.asking = false;
        target.note(found, now);
    }
}

impl Target {
    fn new(subject: Subject, now: Instant) -> Self {
        // sidecars that load the same list must not ask in step
        let (rise, fall, next) = match &subject.check {
            Some(health) => (health.rise, health.fall, now + health.interval.mul_f64(fastrand::f64())),
            None => {
                // what opened it is no longer asked for
                if matches!(subject.peer.state(), State::Open { cause: Cause::Active, .. }) {
                    subject.peer.restore(now);
                }
                (1, 1, now)
            }
        };
        Self { subject, streak: Streak::new(rise, fall), next, asking: false }
    }

    fn health(&self) -> &Health {
        self.subject.check.as_ref().unwrap_or(&RECONNECT)
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.asking
            && now >= self.next
            && (self.subject.check.is_some() || self.subject.peer.waits_for_connect())
    }

    fn note(&mut self, found: Found, now: Instant) {
        let Subject { service, peer, check, rules } = &self.subject;
        let provider = &peer.address;
        if found.is_ok() && peer.reached(now).is_some() {
            tracing::info!(service, %provider, "provider takes connections again");
        }
        if check.is_none() {
            return;
        }
        if let Ok(queue) = found {
            peer.queue(queue);
        }
        let changed = self.streak.note(found.is_ok());
        match found {
            Ok(_) if changed => {
                if peer.restore(now).is_some() {
                    tracing::info!(service, %provider, "provider is well by its health check");
                }
            }
            Err(reason) if self.streak.healthy == Some(false) => {
                // each time: once nobody checks any more, a call does
                if peer.eject(rules, now).is_some() {
                    tracing::warn!(service, %provider, cause = "active", reason, "provider is left alone");
                }
            }
            Ok(_) | Err(_) => {}
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
    use crate::names::Address;
    use crate::peer::Outcome;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(now: Instant) -> Arc<Peer> {
        Peer::new(Address::new("10.0.0.5:80").unwrap(), Arc::default(), now, false)
    }

    fn subject(peer: &Arc<Peer>, check: Option<Health>) -> Subject {
        Subject { service: "user".into(), peer: peer.clone(), check, rules: Circuit::default() }
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
        due.iter().for_each(|check| agenda.note(check.key, found.clone(), now));
        due.len()
    }

    #[test]
    fn without_health_only_those_that_took_no_connection_are_asked() {
        let now = Instant::now();
        let (deaf, ill) = (peer(now), peer(now));
        let mut agenda = Agenda::default();
        agenda.follow([subject(&deaf, None), subject(&ill, None)].into_iter(), now);
        assert_eq!(step(&mut agenda, &Ok(None), now), 0);
        fail(&deaf, Fault::Unreached, now);
        fail(&ill, Fault::Status, now);
        assert_eq!(step(&mut agenda, &Err("refused".into()), now), 1);
        assert_eq!(step(&mut agenda, &Ok(None), now + SECOND), 0, "not before its interval");
        assert_eq!(step(&mut agenda, &Ok(None), now + 3 * SECOND), 1);
        assert!(deaf.is_closed() && !ill.is_closed());
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
                *asked.entry(check.key).or_insert(0) += 1;
                agenda.note(check.key, Ok(None), now);
            }
        }
        assert_eq!(asked.values().copied().collect::<Vec<_>>(), [3; 10]);
    }

    #[test]
    fn calls_that_wait_at_php_fpm_are_told_to_the_peer() {
        let now = Instant::now();
        let peer = peer(now);
        let mut agenda = Agenda::default();
        agenda.follow([subject(&peer, Some(RECONNECT.clone()))].into_iter(), now);
        step(&mut agenda, &Ok(Some(5)), now + 3 * SECOND);
        assert_eq!((peer.queues(), peer.room()), (true, Some(5)));
        agenda.follow([subject(&peer, None)].into_iter(), now);
        assert_eq!((peer.queues(), peer.room()), (false, None));
    }
}

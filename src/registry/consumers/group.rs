//! This sidecar's node beside one service: made, renewed, obeyed.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::holder::Holder;
use super::{Asked, Limiters, SPREAD, Seat, Seats, UNWATCHED};
use crate::registry::shares::{Card, Outcome, Step, Taker, lease};
use crate::registry::watches::backoff;
use crate::registry::{Changes, Link, Owner, Reach, Source, Trouble, Watching, now};

/// What is told below the registry's problems,
const TOPIC: &str = "consumers";
/// and where two living sidecars are called the same.
const TWIN: &str = "host.name";
/// How often what callers ask for is looked at.
const TICK: Duration = Duration::from_millis(500);
/// The same where no quota is shared: only the node is kept.
const REST: Duration = Duration::from_secs(600);
/// A fleet that comes back has its shares looked at within so long.
const STORM: Duration = Duration::from_secs(1);
/// Steps that follow each other at once: look, make, look, write.
const STEPS: usize = 8;

/// See the module.
pub(super) struct Group {
    source: Source,
    path: String,
    /// Where it stands as soon as another living process has the first one.
    second: Option<String>,
    twin: Twin,
    limiters: watch::Receiver<Limiters>,
    asked: Asked,
    taker: Taker,
    /// From the first shared quota on.
    holder: Option<Box<Holder>>,
    changes: Arc<Changes>,
    watch: Option<Watching>,
    epoch: u64,
    seats: Seats,
    seat: Option<Seat>,
    next_look: Instant,
    failures: u32,
    not_before: Instant,
}

/// What is known of an own node, whoever keeps it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Twin {
    /// The node was this process's once: then another's is no left-over of a former one.
    pub(super) was_ours: bool,
    /// It stands by the second name.
    pub(super) gave_way: bool,
    /// So often in a row it could not be looked after.
    pub(super) failures: u32,
}

impl Group {
    /// Of this host, whose node stands below `parent` by the first of its names that is free.
    pub(super) fn new(
        source: &Source,
        (parent, [host, second]): (&str, [&str; 2]),
        twin: Twin,
        seats: Seats,
        limiters: watch::Receiver<Limiters>,
    ) -> Box<Self> {
        let own = if twin.gave_way { second } else { host };
        Box::new(Self {
            source: source.clone(),
            path: format!("{parent}/{own}"),
            second: (!twin.gave_way).then(|| format!("{parent}/{second}")),
            twin,
            limiters,
            asked: Asked::default(),
            taker: Taker::new(Duration::ZERO),
            holder: None,
            changes: Arc::default(),
            watch: None,
            epoch: 0,
            seats,
            seat: None,
            next_look: now(),
            failures: twin.failures,
            not_before: now(),
        })
    }

    /// Brings the node in line once, where no quota is shared; gives what is known of it then, and when that is
    /// to be done again.
    pub(super) async fn look_after(mut self: Box<Self>, link: Link) -> (Twin, Instant) {
        self.turn(link, &Limiters::new()).await;
        let again = if self.failures > 0 { self.not_before } else { now() + REST };
        (Twin { failures: self.failures, ..self.twin }, again)
    }

    /// Runs until nobody wants its limiters; boxed, as nearly all that it does is to wait.
    pub(super) async fn run(mut self: Box<Self>) {
        let mut link = self.source.link();
        loop {
            let linked = *link.borrow_and_update();
            let limiters = self.limiters.borrow_and_update().clone();
            Box::pin(self.turn(linked, &limiters)).await;
            let gives = linked.up && now() >= self.not_before && !limiters.is_empty();
            let rest = now() + if limiters.is_empty() { REST } else { TICK };
            let wake = if self.not_before > now() { self.not_before } else { rest };
            tokio::select! {
                Ok(()) = link.changed() => self.spread(link.borrow().storm),
                changed = self.limiters.changed() => if changed.is_err() { break },
                () = self.changes.changed() => {
                    self.changes.take();
                    self.taker.noticed();
                }
                () = stirred(self.holder.as_deref()), if gives => {}
                () = missed(&limiters) => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        Box::pin(self.leave()).await;
    }

    /// Does what is due.
    async fn turn(&mut self, link: Link, limiters: &Limiters) {
        let asks = self.asked.read(limiters, now());
        if !link.up || now() < self.not_before {
            return;
        }
        self.attach(link).await;
        self.keep(limiters, &asks).await;
        if !limiters.is_empty() {
            let own = self.path.rsplit_once('/').unwrap_or_default();
            let holder = || Box::new(Holder::new(&self.source, own, self.seats.clone()));
            self.holder.get_or_insert_with(holder).turn(link, limiters, !asks.is_empty()).await;
        }
    }

    /// A new connection has all hosts come at once: who has no share to lose waits longest.
    fn spread(&mut self, storm: bool) {
        let most = match (self.limiters.borrow().is_empty(), storm) {
            (true, _) => SPREAD,
            (false, true) => STORM,
            (false, false) => return,
        };
        self.not_before = now() + most.mul_f64(fastrand::f64());
    }

    /// Hears of what happens to the own node; a new connection has nothing of the one before.
    async fn attach(&mut self, link: Link) {
        if self.epoch != link.epoch {
            self.watch = None;
            self.taker.noticed();
        }
        if !self.limiters.borrow().is_empty() && self.seat.is_none() {
            self.seat = self.seats.take(&self.path);
        }
        if self.watch.is_none() && self.seat.is_some() {
            let paths = [self.path.clone()];
            let watch = self.source.watch(link.epoch, &paths, Reach::Node, &self.changes).await.pop();
            self.watch = watch.and_then(Result::ok);
        }
        if self.watch.is_none() && now() >= self.next_look {
            self.next_look = now() + UNWATCHED;
            self.taker.noticed();
        }
        self.epoch = link.epoch;
        if let Some(session) = self.source.session_timeout() {
            self.taker.last(lease(session));
        }
    }

    /// Brings the node in line, and the limiters with it.
    async fn keep(&mut self, limiters: &Limiters, asks: &BTreeMap<String, u64>) {
        for _ in 0..STEPS {
            let step = match self.taker.next(asks, now()) {
                Step::Wait(_) => break,
                Step::Look => self.look().await,
                Step::Create(card) => {
                    self.taker.noticed();
                    self.source.create_ephemeral(&self.path, &card.data()).await
                }
                Step::Write(version, card) => {
                    let written = self.source.replace(&self.path, version, &card.data()).await;
                    let done = |(version, sent): &(i32, Instant)| Outcome::Done(*version, *sent);
                    self.taker.done(written.as_ref().map_or(Outcome::Open, done));
                    written.map(|_| ())
                }
            };
            // what is taken away is out of use before anybody is told that it is
            self.lend(limiters);
            match step {
                Ok(()) | Err(Trouble::Exists | Trouble::Changed | Trouble::NoNode) => self.well(),
                Err(trouble @ (Trouble::Unknown(_) | Trouble::Refused(_))) => {
                    self.ill(&trouble);
                    self.not_before = now() + backoff(self.failures, &mut fastrand::Rng::new());
                    break;
                }
            }
        }
        self.lend(limiters);
    }

    fn well(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            self.source.status.problem(TOPIC, None);
        }
    }

    fn ill(&mut self, trouble: &Trouble) {
        self.failures += 1;
        // where no quota is shared, nobody misses the node
        if matches!(trouble, Trouble::Refused(_)) && !self.limiters.borrow().is_empty() {
            let path = &self.path;
            let problem =
                format!("{path} can't be written: {trouble}; a fleet's quotas admit their floor only");
            if self.source.status.problem(TOPIC, Some(problem.clone())) {
                tracing::warn!(problem, "this host has no share of quotas");
            }
        }
    }

    fn lend(&self, limiters: &Limiters) {
        let now = now();
        for (caller, limiter) in limiters {
            limiter.lend(self.taker.share(caller, now), now);
        }
    }

    async fn look(&mut self) -> Result<(), Trouble> {
        let held = self.source.held(&self.path).await?;
        match held {
            None => self.taker.seen(None),
            Some(held) if held.owner == Owner::Me => {
                self.twin.was_ours = true;
                self.taker.seen(Some((held.version, Card::read(&held.data))));
            }
            Some(held) if held.owner == Owner::Other && self.twin.was_ours => {
                self.taker.seen(None);
                self.give_way();
            }
            Some(held) => {
                // left by a former process of this host, or session
                self.taker.noticed();
                let card = Card::default();
                self.source.take_over(&self.path, &held, &card.data()).await?;
            }
        }
        Ok(())
    }

    /// Another living process is called the same: it keeps the node, and this one makes another.
    fn give_way(&mut self) {
        let Some(second) = self.second.take() else { return };
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let problem = format!(
            "host.name: {} is another living sidecar's too, and its node below consumers is that one's; this one's is {}; give each a name of its own",
            name(&self.path),
            name(&second)
        );
        if self.source.status.problem(TWIN, Some(problem.clone())) {
            tracing::warn!(problem, "two sidecars have one name");
        }
        self.holder.iter_mut().for_each(|holder| name(&second).clone_into(&mut holder.host));
        (self.path, self.watch) = (second, None);
        self.twin = Twin { gave_way: true, ..Twin::default() };
        self.taker.noticed();
    }

    /// Nobody calls any more: the node goes, after its shares.
    pub(super) async fn leave(self: Box<Self>) {
        let now = now();
        self.limiters.borrow().values().for_each(|limiter| limiter.lend(None, now));
        if let Some(holder) = self.holder {
            holder.leave().await;
        }
        if let Ok(Some(held)) = self.source.held(&self.path).await
            && held.owner == Owner::Me
        {
            // it ends with the session otherwise
            let _ = self.source.release(&self.path, &held).await;
        }
    }
}

/// Waits until the holder, where this is it, has something to do.
fn stirred(holder: Option<&Holder>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    match holder {
        Some(holder) => Box::pin(holder.stirred()),
        None => Box::pin(std::future::pending()),
    }
}

/// Waits for a call that found nothing lent.
async fn missed(limiters: &Limiters) {
    let mut calls: Vec<_> = limiters.values().map(|limiter| Box::pin(limiter.missed())).collect();
    poll_fn(|cx| {
        let any = calls.iter_mut().any(|call| call.as_mut().poll(cx).is_ready());
        if any { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

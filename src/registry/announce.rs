//! Keeps this host's providers registered: a node of its own for each, while it is healthy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::status::NOT_CHECKED;
use super::watches::backoff;
use super::{Changes, Held, Link, Owner, Reach, Source, Trouble, Watching, now};
use crate::config::OwnProvider;

/// How often the node is looked at where no watch tells of it.
const UNWATCHED: Duration = Duration::from_secs(10);
/// The same where one does: a fleet that looked often would ask more than all else that goes on.
const WATCHED: Duration = Duration::from_secs(60);
/// Between two looks, however often others write: it takes several requests to put the node right.
const APART: Duration = Duration::from_millis(100);
/// How long a node that another living process took is left alone.
const SUPERSEDED: Duration = Duration::from_secs(180);
/// Steps of one registration: create, look, take over, and again where others write too.
const MAX_STEPS: usize = 8;

/// A provider of this host.
pub struct Own {
    /// As configured.
    pub provider: OwnProvider,
    /// The data centre it is in, written to its node.
    pub idc: Option<String>,
    /// Registered while true; as long as nobody knows, what a former process registered stays.
    pub healthy: watch::Receiver<Option<bool>>,
}

/// How a registration ended.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// The node is ours.
    Ours,
    /// The node is somebody else's, and stays so.
    Theirs(&'static str),
    /// Nobody knows; the next try will see.
    Open(String),
}

struct Announcer {
    source: Source,
    path: String,
    data: Vec<u8>,
    healthy: watch::Receiver<Option<bool>>,
    changes: Arc<Changes>,
    watch: Option<Watching>,
    watched_epoch: u64,
    /// Whether the node was ours once: then another's is no left-over of a former process.
    was_ours: bool,
    /// Whether the node is ours as far as we know.
    ours: bool,
    /// Whether it may be ours as far as we know: what was sent may have been done.
    perhaps_ours: bool,
    failures: u32,
    /// Before this no change is looked at.
    calm: Instant,
    next: Instant,
}

/// Keeps every provider of `own` registered while it is healthy; once `leave` turned true it
/// returns when all have left, and tries as long as it is let.
pub async fn announce(source: Source, own: Vec<Own>, leave: watch::Receiver<bool>) {
    let mut providers = JoinSet::new();
    for own in own {
        match Announcer::new(&source, own) {
            Ok(announcer) => drop(providers.spawn(announcer.run(leave.clone()))),
            Err((service, reason)) => source.status.own(&service, false, Some(reason)),
        }
    }
    while providers.join_next().await.is_some() {}
}

impl Announcer {
    fn new(source: &Source, own: Own) -> Result<Self, (String, String)> {
        let path = source.layout().own_provider_path(&own.provider);
        let path = path.map_err(|reason| (own.provider.service.clone(), reason))?;
        source.status.own(&path, false, None);
        Ok(Self {
            source: source.clone(),
            path,
            data: payload(&own),
            healthy: own.healthy,
            changes: Arc::default(),
            watch: None,
            watched_epoch: 0,
            was_ours: false,
            ours: false,
            perhaps_ours: false,
            failures: 0,
            calm: now(),
            next: now(),
        })
    }

    async fn run(mut self, mut leave: watch::Receiver<bool>) {
        let mut link = self.source.link();
        // a health check that ended says nothing new
        let mut checked = true;
        loop {
            let linked = *link.borrow_and_update();
            if linked.up {
                tokio::select! {
                    _ = leave.wait_for(|leave| *leave) => break,
                    () = self.reconcile(linked) => {}
                }
            } else {
                self.next = now() + UNWATCHED;
            }
            tokio::select! {
                _ = leave.wait_for(|leave| *leave) => break,
                Ok(()) = link.changed() => self.next = now(),
                changed = self.healthy.changed(), if checked => {
                    checked = changed.is_ok();
                    self.next = now();
                }
                () = changed(&self.changes, self.calm) => {
                    self.changes.take();
                    self.next = now();
                }
                () = tokio::time::sleep_until(self.next.into()) => {}
            }
        }
        if self.perhaps_ours {
            self.leave(link).await;
        }
    }

    /// Brings the node in line with the health, and chooses when to look again.
    async fn reconcile(&mut self, link: Link) {
        self.watch(link).await;
        let healthy = *self.healthy.borrow_and_update();
        let claim = match healthy {
            Some(true) => self.claim().await,
            Some(false) => self.withdraw().await,
            None => self.keep().await,
        };
        let fails = matches!(claim, Claim::Open(_));
        let (pause, note) = match claim {
            Claim::Ours => (self.pause(WATCHED), None),
            Claim::Theirs(why) => (self.pause(SUPERSEDED), Some(why.to_owned())),
            Claim::Open(reason) => {
                self.failures += 1;
                (backoff(self.failures, &mut fastrand::Rng::new()), Some(reason))
            }
        };
        if note.is_none() {
            self.failures = 0;
        }
        self.next = now() + pause;
        self.calm = if fails { self.next } else { now() + APART };
        let unhealthy = match healthy {
            Some(true) => None,
            Some(false) => Some("its health check fails".to_owned()),
            None => Some(NOT_CHECKED.to_owned()),
        };
        self.source.status.own(&self.path, self.ours, note.or(unhealthy));
    }

    /// Until the next look, a quarter more or less, so that sidecars don't look in step.
    fn pause(&self, watched: Duration) -> Duration {
        let pause = if self.watch.is_some() { watched } else { UNWATCHED };
        pause.mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    /// Hears of the node's end; a watch of an earlier connection is deaf.
    async fn watch(&mut self, link: Link) {
        if self.watch.is_some() && self.watched_epoch == link.epoch {
            return;
        }
        let paths = [self.path.clone()];
        let outcome = self.source.watch(link.epoch, &paths, Reach::Node, &self.changes).await.pop();
        self.watch = outcome.and_then(Result::ok);
        self.watched_epoch = link.epoch;
    }

    /// Makes the node ours, reading before every write: what stands right is not touched.
    async fn claim(&mut self) -> Claim {
        self.perhaps_ours = true;
        for _ in 0..MAX_STEPS {
            let step = match self.source.held(&self.path).await {
                Ok(None) => self.source.create_ephemeral(&self.path, &self.data).await,
                Ok(Some(held)) if held.owner == Owner::Me && held.data == self.data => {
                    (self.was_ours, self.ours) = (true, true);
                    return Claim::Ours;
                }
                Ok(Some(held)) => match self.may_take(&held) {
                    Ok(()) => self.source.take_over(&self.path, &held, &self.data).await,
                    Err(why) => {
                        (self.ours, self.perhaps_ours) = (false, false);
                        return Claim::Theirs(why);
                    }
                },
                Err(trouble) => Err(trouble),
            };
            match step {
                // looked at once more: only what was read counts
                Ok(()) | Err(Trouble::Exists | Trouble::Changed | Trouble::NoNode) => {}
                Err(trouble @ (Trouble::Unknown(_) | Trouble::Refused(_))) => {
                    return Claim::Open(trouble.to_string());
                }
            }
        }
        Claim::Open("others keep changing the node".into())
    }

    /// Makes what a former process left ours, so that it doesn't end with that one's session.
    async fn keep(&mut self) -> Claim {
        let stands = |held: &Held| held.owner != Owner::Nobody;
        match self.source.held(&self.path).await {
            Ok(held) if self.was_ours || held.as_ref().is_some_and(stands) => self.claim().await,
            Ok(_) => Claim::Ours,
            Err(trouble) => Claim::Open(trouble.to_string()),
        }
    }

    /// Whether a node that is not as it should be may be replaced.
    fn may_take(&self, held: &Held) -> Result<(), &'static str> {
        match held.owner {
            Owner::Me | Owner::FormerMe => Ok(()),
            // what a former process left behind would end with its session, and take us with it
            Owner::Other if !self.was_ours => Ok(()),
            Owner::Other => {
                Err("another process registered the same address; it keeps the node while it lives")
            }
            Owner::Nobody => Err("a lasting node stands in its place; remove it with `remora registry rm`"),
        }
    }

    async fn withdraw(&mut self) -> Claim {
        let outcome = match self.source.held(&self.path).await {
            Ok(Some(held)) if matches!(held.owner, Owner::Me | Owner::FormerMe) => {
                self.source.release(&self.path, &held).await
            }
            Ok(_) => Ok(()),
            Err(trouble) => Err(trouble),
        };
        match outcome {
            Ok(()) | Err(Trouble::NoNode) => {
                (self.ours, self.perhaps_ours) = (false, false);
                Claim::Ours
            }
            Err(trouble) => Claim::Open(trouble.to_string()),
        }
    }

    /// Tries until the node is gone.
    async fn leave(&mut self, mut link: watch::Receiver<Link>) {
        let mut failures = 0;
        while let Claim::Open(reason) = self.withdraw().await {
            failures += 1;
            if failures == 1 {
                tracing::warn!(node = self.path, reason, "own provider can't leave the registry yet");
            }
            self.source.status.own(&self.path, self.ours, Some(format!("it can't leave yet: {reason}")));
            tokio::select! {
                Ok(()) = link.changed() => {}
                () = tokio::time::sleep(backoff(failures, &mut fastrand::Rng::new())) => {}
            }
        }
        self.source.status.own(&self.path, false, Some("it has left".into()));
    }
}

/// Waits for a change, and then until `not_before`.
async fn changed(changes: &Changes, not_before: Instant) {
    changes.changed().await;
    tokio::time::sleep_until(not_before.into()).await;
}

fn payload(own: &Own) -> Vec<u8> {
    let mut fields = serde_json::Map::new();
    if let Some(weight) = own.provider.weight {
        fields.insert("weight".into(), weight.into());
    }
    if let Some(idc) = &own.idc {
        fields.insert("idc".into(), idc.as_str().into());
    }
    serde_json::Value::Object(fields).to_string().into_bytes()
}

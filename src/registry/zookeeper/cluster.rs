//! The ensemble's mark: a random id below the root that tells a wiped or a wrong one.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use zookeeper_client::Client;

use super::super::{Trouble, lock};
use super::ZooKeeper;

/// The node that holds it, below the root.
pub(super) const MARK: &str = "/cluster-id";
/// How often an ensemble that is not ours is looked at again.
const AGAIN: std::ops::Range<u64> = 2000..4000;

/// What is found where the mark belongs.
enum Mark {
    Is(String),
    Absent,
    /// Its ACL lets us not read it.
    Hidden,
}

impl ZooKeeper {
    /// From now on an ensemble without a mark is given one.
    pub(in crate::registry) fn give_mark(&self) {
        self.marks.store(true, Relaxed);
    }

    /// The mark known so far.
    pub(in crate::registry) fn cluster(&self) -> Option<String> {
        lock(&self.cluster).clone()
    }

    /// Takes the mark an earlier run knew for ours.
    pub(in crate::registry) fn expect_cluster(&self, mark: String) {
        *lock(&self.cluster) = Some(mark);
    }

    /// The ensemble that is reached now, and not believed, is ours, whatever its mark; fails where none is.
    pub(in crate::registry) fn trust(&self) -> Result<(), &'static str> {
        let link = *self.link.borrow();
        if link.up {
            return Err("the registry that is reached is the one that is known");
        }
        if !link.doubted {
            return Err("no registry is reached now");
        }
        self.trust.notify_waiters();
        Ok(())
    }

    /// Whoever was trusted on a connection that ended, and has no mark yet, is a stranger on the next one.
    pub(super) fn end_trust(&self) {
        if let Some(former) = lock(&self.former_cluster).take() {
            *lock(&self.cluster) = Some(former);
        }
    }

    /// Waits until the ensemble is the one we know; until then nothing of it is believed.
    pub(super) async fn trusted(&self, client: &Client) {
        let mut trust = pin!(self.trust.notified());
        loop {
            // without an answer nothing is known: the connection is about to be given up
            if let Ok(found) = self.read_mark(client).await {
                let stranger = self.stranger(found);
                let news = self.status.problem("cluster", stranger.clone());
                let doubted = stranger.is_some();
                self.link.send_if_modified(|link| std::mem::replace(&mut link.doubted, doubted) != doubted);
                match stranger {
                    None => return,
                    Some(problem) if news => tracing::error!(%problem, "registry not believed"),
                    Some(_) => {}
                }
            }
            tokio::select! {
                () = &mut trust => {
                    self.status.problem("cluster", None);
                    *lock(&self.former_cluster) = lock(&self.cluster).take();
                    return;
                }
                () = tokio::time::sleep(Duration::from_millis(fastrand::u64(AGAIN))) => {}
            }
        }
    }

    /// What is wrong with a mark that was found, or was not.
    fn stranger(&self, found: Mark) -> Option<String> {
        let known = self.cluster()?;
        let path = self.mark_path();
        let (problem, mend) = match found {
            Mark::Is(found) if found == known => return None,
            Mark::Is(_) => {
                (format!("ZooKeeper is another one than before: {path} differs"), "bring the old data back")
            }
            Mark::Absent => (
                format!("ZooKeeper lost its data or is another one: {path} is missing"),
                "bring the old data back",
            ),
            Mark::Hidden => (
                format!("ZooKeeper may be another one than before: the ACL of {path} hides it"),
                "let us read it",
            ),
        };
        Some(format!(
            "{problem}; calls go on with what was known; {mend}, or say that it is right by POST /registry/trust (`{path}` was {known})"
        ))
    }

    fn mark_path(&self) -> String {
        format!("{}{}{MARK}", self.chroot(), self.root)
    }

    /// Learns the mark, and makes it where nobody has, the root is there and it may be made, as far as is
    /// known; false where it is to be looked for soon.
    pub(super) async fn mark_cluster(
        &self,
        client: &Client,
        rooted: bool,
        may: &AtomicBool,
    ) -> Result<bool, Trouble> {
        if self.cluster().is_some() {
            return Ok(true);
        }
        let outcome = match self.read_mark(client).await? {
            Mark::Is(found) => Ok(found),
            Mark::Hidden => Err("its ACL hides it; let us read it"),
            Mark::Absent if !self.marks.load(Relaxed) => return Ok(true),
            Mark::Absent if !rooted => return Ok(false),
            // one that is refused is as much work to ZooKeeper as one that is done
            Mark::Absent if !may.load(Relaxed) => return Ok(true),
            Mark::Absent => match self.make_mark(client).await {
                // another sidecar was first: its mark is read the next time
                Err(Trouble::Exists | Trouble::NoNode) => return Ok(false),
                Err(Trouble::Refused(_)) => {
                    may.store(false, Relaxed);
                    Err("we may not make it; make it by hand, with any text")
                }
                made => Ok(made?),
            },
        };
        self.unmarked(outcome.as_ref().err().copied());
        if let Ok(mark) = outcome {
            *lock(&self.cluster) = Some(mark);
        }
        *lock(&self.former_cluster) = None;
        Ok(true)
    }

    /// Tells why there is no mark, and what follows; or that there is one.
    fn unmarked(&self, reason: Option<&str>) {
        let problem = reason.filter(|_| self.marks.load(Relaxed)).map(|reason| {
            format!(
                "{}: {reason}; without it a wiped or another ZooKeeper is believed, and registry.snapshot is not written",
                self.mark_path()
            )
        });
        if self.status.problem("mark", problem.clone())
            && let Some(problem) = problem
        {
            tracing::warn!(%problem, "nothing tells this registry from another");
        }
    }

    async fn make_mark(&self, client: &Client) -> Result<String, Trouble> {
        let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let options = self.security.lasting();
        self.answered(client.create(&self.full(MARK), id.as_bytes(), &options)).await?;
        Ok(id)
    }

    async fn read_mark(&self, client: &Client) -> Result<Mark, Trouble> {
        match self.answered(client.get_data(&self.full(MARK))).await {
            Ok((data, _)) => Ok(Mark::Is(String::from_utf8_lossy(&data).into_owned())),
            Err(Trouble::NoNode) => Ok(Mark::Absent),
            Err(Trouble::Refused(_)) => Ok(Mark::Hidden),
            Err(trouble) => Err(trouble),
        }
    }
}

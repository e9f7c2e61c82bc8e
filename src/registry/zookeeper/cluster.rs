//! The ensemble's mark: a random id below the root that tells a wiped or a wrong one.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use zookeeper_client::Client;

use super::super::{Trouble, lock};
use super::ZooKeeper;

/// The node that holds it, below the root.
pub(super) const MARK: &str = "/cluster-id";
/// How often an ensemble that is not ours is looked at again.
const AGAIN: std::ops::Range<u64> = 2000..4000;

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

    /// From now on the ensemble that is reached next is ours, whatever its mark.
    pub(in crate::registry) fn trust(&self) {
        *lock(&self.cluster) = None;
        self.trust.notify_waiters();
    }

    /// Waits until the ensemble is the one we know; until then nothing of it is believed.
    pub(super) async fn trusted(&self, client: &Client) {
        loop {
            let trust = self.trust.notified();
            // without an answer nothing is known: the connection is about to be given up
            if let Ok(found) = self.read_mark(client).await {
                let stranger = self.stranger(found);
                let news = self.status.problem("cluster", stranger.clone());
                match stranger {
                    None => return,
                    Some(problem) if news => tracing::error!(%problem, "registry not believed"),
                    Some(_) => {}
                }
            }
            tokio::select! {
                () = trust => {}
                () = tokio::time::sleep(Duration::from_millis(fastrand::u64(AGAIN))) => {}
            }
        }
    }

    /// What is wrong with a mark that was found, or was not.
    fn stranger(&self, found: Option<String>) -> Option<String> {
        let known = self.cluster()?;
        let path = format!("{}{}{MARK}", self.chroot(), self.root);
        let way_out = format!(
            "calls go on with what was known; bring the old data back, or say that it is right by POST /registry/trust (`{path}` was {known})"
        );
        match found {
            Some(found) if found == known => None,
            Some(_) => Some(format!("ZooKeeper is another one than before: {path} differs; {way_out}")),
            None => Some(format!("ZooKeeper lost its data or is another one: {path} is missing; {way_out}")),
        }
    }

    /// Learns the mark, and makes it where nobody has; false while there is no root to make it below.
    pub(super) async fn mark_cluster(&self, client: &Client) -> Result<bool, Trouble> {
        if self.cluster().is_some() {
            return Ok(true);
        }
        let found = match self.read_mark(client).await? {
            Some(found) => found,
            None if !self.marks.load(Relaxed) => return Ok(true),
            None => {
                let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
                let options = self.security.lasting();
                match self.answered(client.create(&self.full(MARK), id.as_bytes(), &options)).await {
                    Ok(_) => id,
                    // another sidecar was first: its mark is read the next time
                    Err(Trouble::Exists | Trouble::NoNode) => return Ok(false),
                    // it may not be written: then nothing tells a wiped ensemble
                    Err(Trouble::Refused(_)) => return Ok(true),
                    Err(trouble) => return Err(trouble),
                }
            }
        };
        *lock(&self.cluster) = Some(found);
        Ok(true)
    }

    async fn read_mark(&self, client: &Client) -> Result<Option<String>, Trouble> {
        match self.answered(client.get_data(&self.full(MARK))).await {
            Ok((data, _)) => Ok(Some(String::from_utf8_lossy(&data).into_owned())),
            Err(Trouble::NoNode) => Ok(None),
            // it can't be read: nothing is known of it
            Err(Trouble::Refused(_)) => Ok(self.cluster()),
            Err(trouble) => Err(trouble),
        }
    }
}

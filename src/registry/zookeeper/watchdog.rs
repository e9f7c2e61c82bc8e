//! A quiet connection is proved to answer now and then, and what is missing is looked for.

use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use zookeeper_client::Client;

use super::super::Trouble;
use super::ZooKeeper;

/// How often a quiet connection is proved to answer,
const PATROL: Duration = Duration::from_secs(30);
/// and how soon at first while something is missing that may come; then half as often every time.
const IMPATIENT: Duration = Duration::from_secs(2);

impl ZooKeeper {
    /// Ends when the connection no longer answers.
    pub(super) async fn watch_over(&self, client: &Client) {
        let may_mark = AtomicBool::new(true);
        patrol(|| async {
            let rooted = self.check_root(client).await?;
            self.mark_cluster(client, rooted, &may_mark).await
        })
        .await;
    }

    /// Whether the tree we look at is there at all; if not, that is a problem.
    async fn check_root(&self, client: &Client) -> Result<bool, Trouble> {
        let root = if self.root.is_empty() { "/" } else { &self.root };
        let there = self.answered(client.check_stat(root)).await?.is_some();
        let path = format!("{}{}", self.chroot(), self.root);
        let problem = (!there).then(|| {
            format!("{path} does not exist in ZooKeeper: every service reads as absent; create it, or mend the chroot of registry.zookeeper.connect or registry.root")
        });
        if self.status.problem("root", problem.clone())
            && let Some(problem) = problem
        {
            tracing::warn!(%problem, "registry is empty");
        }
        Ok(there)
    }
}

/// Checks until two checks in a row fail: one answer may be late where servers are slow, and a new
/// connection would make them slower. `check` tells whether nothing is missing.
async fn patrol<C: Future<Output = Result<bool, Trouble>>>(mut check: impl FnMut() -> C) {
    let (mut failed, mut patience) = (false, IMPATIENT);
    loop {
        let outcome = check().await;
        let pause = match outcome {
            Ok(true) => PATROL,
            Ok(false) => patience,
            Err(_) if failed => return,
            Err(_) => Duration::ZERO,
        };
        failed = outcome.is_err();
        patience = if outcome == Ok(false) { (2 * patience).min(PATROL) } else { IMPATIENT };
        // those that were connected at once ask at many times
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{Instant, timeout};

    use super::super::super::lock;
    use super::*;

    fn silence() -> Result<bool, Trouble> {
        Err(Trouble::Unknown("no answer".into()))
    }

    /// When checks are made that all end like this, in ten minutes.
    async fn times(outcome: Result<bool, Trouble>) -> Vec<Duration> {
        let (start, times) = (Instant::now(), Mutex::new(Vec::new()));
        let checks = patrol(|| async {
            lock(&times).push(start.elapsed());
            outcome.clone()
        });
        let _ = timeout(Duration::from_secs(600), checks).await;
        times.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_late_answer_is_forgiven_and_two_in_a_row_are_not() {
        let mut outcomes = [Ok(true), silence(), Ok(true), silence(), silence()].into_iter();
        patrol(|| std::future::ready(outcomes.next().unwrap())).await;
        assert_eq!(outcomes.next(), None);
        assert_eq!(times(silence()).await.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_at_the_same_time_as_the_others() {
        let (mine, others) = (times(Ok(true)).await, times(Ok(true)).await);
        assert!((16..28).contains(&mine.len()), "{mine:?}");
        assert_ne!(mine[1..], others[1..]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_soon_looked_for_and_then_less_and_less_often() {
        let times = times(Ok(false)).await;
        assert!(times[1] < Duration::from_secs(3), "{times:?}");
        assert!((18..32).contains(&times.len()), "{times:?}");
    }
}

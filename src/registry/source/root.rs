//! Whether the path below which everything stands is there.

use std::time::Duration;

use super::{Kind, Scope, Source, Trouble};

impl Source {
    /// Fails where the path below which everything stands is not in ZooKeeper; a file needs none.
    pub async fn rooted(&self) -> Result<(), Trouble> {
        let top = if self.root.is_empty() { "/" } else { "" };
        let there = match &self.kind {
            Kind::Embedded(_) => true,
            Kind::ZooKeeper(_) => !self.read(&[Scope::node(top.into())]).await?.is_empty(),
        };
        if there { Ok(()) } else { Err(Trouble::Refused(self.no_root().await)) }
    }

    /// What the session found out of the root at its start.
    async fn no_root(&self) -> String {
        // its request left before ours, but whoever reads the answer may not have run yet
        for _ in 0..100 {
            if let Some(problem) = self.status.problem_of("root") {
                return problem;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        format!("registry.root: {}/ does not exist in ZooKeeper; create it", self.root)
    }
}

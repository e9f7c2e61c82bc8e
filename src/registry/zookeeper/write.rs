//! Writes to ZooKeeper, each one step of what its callers do.

use std::pin::pin;
use std::time::Instant;

use zookeeper_client::{Client, MultiReadResult, MultiWriteError, MultiWriter};

use super::super::{Held, Owner, Trouble, lock};
use super::oneshot::Asked;
use super::read::{cut, out_of_step};
use super::{ZooKeeper, trouble};
use crate::registry::layout::Scope;
use crate::registry::now;

/// Nodes read with one request, by name.
const NODES_AT_ONCE: usize = 50;
/// Nodes deleted with one request.
const DELETES_AT_ONCE: usize = 100;

impl ZooKeeper {
    pub(in crate::registry) async fn held(&self, path: &str) -> Result<Option<Held>, Trouble> {
        self.pace.turn().await;
        let here = self.here()?;
        let (client, path) = (&here.client, self.full(path));
        let answer = match &here.one_shot {
            None => self.answered(client.get_data(&path)).await,
            Some(one_shot) => {
                let asked = vec![Asked { path: path.clone(), children: false, awaited: true }];
                match one_shot.read(client, asked, true).await?.pop() {
                    Some(MultiReadResult::Data { data, stat }) => Ok((data, stat)),
                    Some(MultiReadResult::Error { err }) => Err(trouble(err)),
                    _ => Err(out_of_step()),
                }
            }
        };
        match answer {
            Ok((data, stat)) => {
                let owner = self.owner(client, stat.ephemeral_owner);
                let (born, written, version) = (stat.czxid, stat.mtime, stat.version);
                Ok(Some(Held { owner, born, written, version, data }))
            }
            Err(Trouble::NoNode) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// What stands right below `parent`, by name; nothing is armed.
    pub(in crate::registry) async fn held_below(&self, parent: &str) -> Result<Vec<(String, Held)>, Trouble> {
        let (client, parent) = (self.paced().await?, self.full(parent));
        let names = self.answered(client.list_children(&parent)).await?;
        let mut found = Vec::new();
        for some in cut(&names, NODES_AT_ONCE, |name| parent.len() + name.len()) {
            self.pace.turn().await;
            let mut reader = client.new_multi_reader();
            for name in some {
                reader.add_get_data(&format!("{parent}/{name}")).map_err(trouble)?;
            }
            for (name, answer) in some.iter().zip(self.answered(reader.commit()).await?) {
                // what is gone meanwhile is left out
                if let MultiReadResult::Data { data, stat } = answer {
                    let owner = self.owner(&client, stat.ephemeral_owner);
                    let (born, written, version) = (stat.czxid, stat.mtime, stat.version);
                    found.push((name.clone(), Held { owner, born, written, version, data }));
                }
            }
        }
        Ok(found)
    }

    /// Replaces the data of a node of this version; gives the new one, and when this was sent.
    pub(in crate::registry) async fn replace(
        &self,
        path: &str,
        version: i32,
        data: &[u8],
    ) -> Result<(i32, Instant), Trouble> {
        let (client, path) = (self.paced().await?, self.full(path));
        // not before its turn, which may be waited for
        let sent = now();
        let stat = self.written(&client, &path, client.set_data(&path, data, Some(version))).await?;
        Ok((stat.version, sent))
    }

    fn owner(&self, client: &Client, session: i64) -> Owner {
        match session {
            0 => Owner::Nobody,
            mine if mine == client.session_id().0 => Owner::Me,
            former if lock(&self.sessions).contains(&former) => Owner::FormerMe,
            _ => Owner::Other,
        }
    }

    pub(in crate::registry) async fn create_ephemeral(&self, path: &str, data: &[u8]) -> Result<(), Trouble> {
        let (client, path) = (self.paced().await?, self.full(path));
        match self.written(&client, &path, client.create(&path, data, &self.security.ephemeral())).await {
            Err(Trouble::NoNode) => self.make_parents(&client, &path).await,
            outcome => outcome.map(|_| ()),
        }
    }

    async fn make_parents(&self, client: &Client, path: &str) -> Result<(), Trouble> {
        let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) else {
            return Err(self.no_chroot());
        };
        match self.written(client, parent, client.mkdir(parent, &self.security.lasting())).await {
            Err(Trouble::NoNode) => Err(self.no_chroot()),
            outcome => outcome,
        }
    }

    fn no_chroot(&self) -> Trouble {
        Trouble::Refused("the chroot of registry.zookeeper.connect does not exist; create it first".into())
    }

    pub(in crate::registry) async fn take_over(
        &self,
        path: &str,
        held: &Held,
        data: &[u8],
    ) -> Result<(), Trouble> {
        self.pace.turn().await;
        let (here, path) = (self.here()?, self.full(path));
        let (client, options) = (&here.client, self.security.ephemeral());
        self.still(client, &path, held).await?;
        if here.old {
            // 3.4 knows not what the library creates with in one request; these two leave at once
            let deleted = client.delete(&path, Some(held.version));
            let created = client.create(&path, data, &options);
            self.written(client, &path, deleted).await?;
            return self.written(client, &path, created).await.map(|_| ());
        }
        let mut writer = client.new_multi_writer();
        writer.add_delete(&path, Some(held.version)).map_err(trouble)?;
        writer.add_create(&path, data, &options).map_err(trouble)?;
        self.commit(client, &path, &mut writer).await
    }

    pub(in crate::registry) async fn release(&self, path: &str, held: &Held) -> Result<(), Trouble> {
        let (client, path) = (self.paced().await?, self.full(path));
        self.still(&client, &path, held).await?;
        self.written(&client, &path, client.delete(&path, Some(held.version))).await
    }

    /// Whether it is the same node yet: the server that showed it may have lagged behind, and
    /// every node begins with version 0.
    async fn still(&self, client: &Client, path: &str, held: &Held) -> Result<(), Trouble> {
        // both leave at once, in this order
        let (synced, seen) = (client.sync(path), client.check_stat(path));
        self.answered(synced).await?;
        match self.answered(seen).await? {
            Some(stat) if stat.czxid == held.born && stat.version == held.version => Ok(()),
            Some(_) => Err(Trouble::Changed),
            None => Err(Trouble::NoNode),
        }
    }

    pub(in crate::registry) async fn put(&self, path: &str, data: &[u8]) -> Result<(), Trouble> {
        let (client, path) = (self.client()?, self.full(path));
        loop {
            match self.written(&client, &path, client.set_data(&path, data, None)).await {
                Err(Trouble::NoNode) => {}
                outcome => return outcome.map(|_| ()),
            }
            match self.written(&client, &path, client.create(&path, data, &self.security.lasting())).await {
                Err(Trouble::NoNode) => self.make_parents(&client, &path).await?,
                Err(Trouble::Exists) => {}
                outcome => return outcome.map(|_| ()),
            }
        }
    }

    pub(in crate::registry) async fn remove(&self, path: &str) -> Result<(), Trouble> {
        let scope = Scope { path: path.to_owned(), depth: usize::MAX, prune: None };
        loop {
            let mut nodes = self.read(std::slice::from_ref(&scope)).await?;
            if nodes.is_empty() {
                return Err(Trouble::NoNode);
            }
            // children sort behind their parents, and go before them
            nodes.sort_by(|a, b| b.path.cmp(&a.path));
            match self.delete_all(nodes.iter().map(|node| self.full(&node.path)).collect()).await {
                // somebody made or removed a node meanwhile
                Err(Trouble::Changed | Trouble::NoNode) => {}
                outcome => return outcome,
            }
        }
    }

    /// Removes a lasting node with this data and nothing below it.
    pub(in crate::registry) async fn prune(&self, path: &str, held: &[u8]) -> Result<(), Trouble> {
        let (client, path) = (self.paced().await?, self.full(path));
        // both leave at once, in this order
        let (synced, read) = (client.sync(&path), client.get_data(&path));
        self.answered(synced).await?;
        let (data, stat) = self.answered(read).await?;
        if stat.ephemeral_owner != 0 || data != held {
            return Err(Trouble::Changed);
        }
        self.written(&client, &path, client.delete(&path, Some(stat.version))).await
    }

    async fn delete_all(&self, paths: Vec<String>) -> Result<(), Trouble> {
        let client = self.client()?;
        for chunk in cut(&paths, DELETES_AT_ONCE, String::len) {
            let mut writer = client.new_multi_writer();
            for path in chunk {
                writer.add_delete(path, None).map_err(trouble)?;
            }
            // the first is the deepest: the one that the ACL of a parent is most likely to hold
            self.commit(&client, chunk.first().map_or("", String::as_str), &mut writer).await?;
        }
        Ok(())
    }

    async fn commit(&self, client: &Client, path: &str, writer: &mut MultiWriter<'_>) -> Result<(), Trouble> {
        let mut request = pin!(writer.commit());
        let answer = async {
            request.as_mut().await.map_err(|error| match error {
                MultiWriteError::RequestFailed { source } => source,
                MultiWriteError::OperationFailed { source, .. } => source,
            })
        };
        self.written(client, path, answer).await.map(|_| ())
    }
}

//! Reads from ZooKeeper: many nodes with one request, level by level.

use zookeeper_client::{Client, Error, MultiReadResult};

use super::super::{Node, Trouble};
use super::oneshot::{self, Asked};
use super::{ZooKeeper, trouble};
use crate::registry::layout::{self, Scope};

/// Nodes read with one request, each with its data and its children.
const NODES_PER_READ: usize = 40;

/// A node of one level of a read.
struct Wanted<'a> {
    path: String,
    level: usize,
    scope: &'a Scope,
}

impl Wanted<'_> {
    fn has_children(&self) -> bool {
        self.level < self.scope.depth
    }

    fn asked(&self) -> Asked<'_> {
        // what is below was there when its parent was listed, and the parent tells when it goes
        Asked { path: &self.path, children: self.has_children(), awaited: self.level == 0 }
    }
}

impl ZooKeeper {
    pub(in crate::registry) async fn read(&self, scopes: &[Scope]) -> Result<Vec<Node>, Trouble> {
        self.read_levels(scopes, false).await
    }

    /// The same, and hears of changes where watches are set by reads.
    pub(in crate::registry) async fn read_watched(&self, scopes: &[Scope]) -> Result<Vec<Node>, Trouble> {
        self.read_levels(scopes, true).await
    }

    async fn read_levels(&self, scopes: &[Scope], arm: bool) -> Result<Vec<Node>, Trouble> {
        let here = self.here()?;
        let at_once = if here.one_shot.is_some() { oneshot::NODES_AT_ONCE } else { NODES_PER_READ };
        let mut nodes = Vec::new();
        let mut level: Vec<_> =
            scopes.iter().map(|scope| Wanted { path: self.full(&scope.path), level: 0, scope }).collect();
        while !level.is_empty() {
            let mut below = Vec::new();
            // one request at a time: how many reads are under way is decided by who asks for them
            for chunk in level.chunks(at_once) {
                self.pace.turn().await;
                let answers = match &here.one_shot {
                    None => self.read_some(&here.client, chunk).await?,
                    Some(one_shot) => {
                        let asked: Vec<_> = chunk.iter().map(Wanted::asked).collect();
                        one_shot.read(self, &here.client, &asked, arm).await?
                    }
                };
                self.take(chunk, answers, &mut nodes, &mut below)?;
            }
            level = below;
        }
        Ok(nodes)
    }

    /// Reads some nodes of a level with one request.
    async fn read_some(
        &self,
        client: &Client,
        wanted: &[Wanted<'_>],
    ) -> Result<Vec<MultiReadResult>, Trouble> {
        let mut reader = client.new_multi_reader();
        for wanted in wanted {
            reader.add_get_data(&wanted.path).map_err(trouble)?;
            if wanted.has_children() {
                reader.add_get_children(&wanted.path).map_err(trouble)?;
            }
        }
        self.answered(reader.commit()).await
    }

    /// Keeps what was read; what is below is added to `below`.
    fn take<'a>(
        &self,
        wanted: &[Wanted<'a>],
        answers: Vec<MultiReadResult>,
        nodes: &mut Vec<Node>,
        below: &mut Vec<Wanted<'a>>,
    ) -> Result<(), Trouble> {
        let mut answers = answers.into_iter();
        for wanted in wanted {
            nodes.extend(self.node(&wanted.path, answers.next())?);
            if wanted.has_children() {
                below.extend(children(wanted, answers.next())?);
            }
        }
        Ok(())
    }

    fn node(&self, path: &str, answer: Option<MultiReadResult>) -> Result<Option<Node>, Trouble> {
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        match answer {
            Some(MultiReadResult::Data { data, stat }) => {
                Ok(Some(Node { path, data: layout::data(data), ephemeral: stat.ephemeral_owner != 0 }))
            }
            Some(MultiReadResult::Error { err: Error::NoNode }) => Ok(None),
            Some(MultiReadResult::Error { err: Error::NoAuth }) => {
                let reason = "ZooKeeper lets us not read it; give its ACL read for the world".to_owned();
                Ok(Some(Node { path, data: Err(reason), ephemeral: false }))
            }
            Some(MultiReadResult::Error { err }) => Err(trouble(err)),
            _ => Err(out_of_step()),
        }
    }
}

fn children<'a>(
    parent: &Wanted<'a>,
    answer: Option<MultiReadResult>,
) -> Result<impl Iterator<Item = Wanted<'a>>, Trouble> {
    let names = match answer {
        Some(MultiReadResult::Children { children }) => children,
        Some(MultiReadResult::Error { err: Error::NoNode | Error::NoAuth }) => Vec::new(),
        Some(MultiReadResult::Error { err }) => return Err(trouble(err)),
        _ => return Err(out_of_step()),
    };
    let (level, scope, path) = (parent.level + 1, parent.scope, parent.path.clone());
    let wanted = names.into_iter().filter(move |name| scope.wants(level, name));
    Ok(wanted.map(move |name| Wanted { path: format!("{path}/{name}"), level, scope }))
}

pub(super) fn out_of_step() -> Trouble {
    Trouble::Unknown("ZooKeeper answered something else than it was asked".into())
}

//! Reads from ZooKeeper: many nodes with one request, level by level.

use zookeeper_client::{Client, Error, MultiReadResult};

use super::super::{Node, Trouble};
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

impl ZooKeeper {
    pub(in crate::registry) async fn read(&self, scopes: &[Scope]) -> Result<Vec<Node>, Trouble> {
        let client = self.client()?;
        let mut nodes = Vec::new();
        let mut level: Vec<_> =
            scopes.iter().map(|scope| Wanted { path: self.full(&scope.path), level: 0, scope }).collect();
        while !level.is_empty() {
            let mut below = Vec::new();
            // one request at a time: how many reads are under way is decided by who asks for them
            for chunk in level.chunks(NODES_PER_READ) {
                self.read_some(&client, chunk, &mut nodes, &mut below).await?;
            }
            level = below;
        }
        Ok(nodes)
    }

    /// Reads some nodes of a level; what is below them is added to `below`.
    async fn read_some<'a>(
        &self,
        client: &Client,
        wanted: &[Wanted<'a>],
        nodes: &mut Vec<Node>,
        below: &mut Vec<Wanted<'a>>,
    ) -> Result<(), Trouble> {
        let mut reader = client.new_multi_reader();
        for wanted in wanted {
            reader.add_get_data(&wanted.path).map_err(trouble)?;
            if wanted.level < wanted.scope.depth {
                reader.add_get_children(&wanted.path).map_err(trouble)?;
            }
        }
        self.pace.turn().await;
        let mut answers = self.answered(reader.commit()).await?.into_iter();
        for wanted in wanted {
            nodes.extend(self.node(&wanted.path, answers.next())?);
            if wanted.level < wanted.scope.depth {
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

fn out_of_step() -> Trouble {
    Trouble::Unknown("ZooKeeper answered something else than it was asked".into())
}

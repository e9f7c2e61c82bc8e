//! Reads from ZooKeeper: many nodes with one request, level by level.

use zookeeper_client::{Client, Error, MultiReadResult};

use super::super::{Node, Trouble};
use super::oneshot::{self, Asked};
use super::{ZooKeeper, trouble};
use crate::registry::layout::{self, Scope};

/// Nodes read with one request, each with its data and its children.
const NODES_PER_READ: usize = 40;

/// Bytes of the paths of one request, each of which may stand in it twice: a server cuts the
/// connection over a request of 1 MiB.
const PATHS: usize = 256 << 10;

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

    fn asked(&self) -> Asked {
        // what is below was there when its parent was listed, and the parent tells when it goes
        Asked { path: self.path.clone(), children: self.has_children(), awaited: self.level == 0 }
    }
}

impl ZooKeeper {
    /// Waits until the server that is asked knows what all others know now.
    pub(in crate::registry) async fn catch_up(&self) -> Result<(), Trouble> {
        let client = self.paced().await?;
        self.answered(client.sync("/")).await
    }

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
            for chunk in cut(&level, at_once, |wanted| wanted.path.len()) {
                self.pace.turn().await;
                let answers = match &here.one_shot {
                    None => self.read_some(&here.client, chunk).await?,
                    Some(one_shot) => {
                        let asked = chunk.iter().map(Wanted::asked).collect();
                        one_shot.read(&here.client, asked, arm).await?
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
                let (asked, too_long): (Vec<_>, Vec<_>) =
                    children(wanted, answers.next())?.partition(|child| child.path.len() <= PATHS);
                below.extend(asked);
                nodes.extend(too_long.into_iter().map(|child| self.too_long(&child.path)));
            }
        }
        Ok(())
    }

    fn too_long(&self, path: &str) -> Node {
        let reason = format!("its path has {} bytes, more than the {PATHS} that are asked for", path.len());
        Node { path: self.short(path), data: Err(reason), ephemeral: false }
    }

    /// The path below the root.
    fn short(&self, path: &str) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }

    fn node(&self, path: &str, answer: Option<MultiReadResult>) -> Result<Option<Node>, Trouble> {
        let path = self.short(path);
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

/// Cuts what goes into requests: `most` pieces each, and as many bytes of paths as a server takes.
pub(super) fn cut<T>(pieces: &[T], most: usize, bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut left = pieces;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |piece: &&T| {
            sum += bytes(piece);
            sum <= PATHS
        };
        let count = left.iter().take(most).take_while(fits).count().max(1);
        let (now, later) = left.split_at_checked(count)?;
        left = later;
        Some(now)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_some_pieces_and_no_more_bytes_than_a_server_takes() {
        let sizes = |pieces: &[usize], most| -> Vec<usize> {
            cut(pieces, most, |size| *size).map(<[usize]>::len).collect()
        };
        assert!(sizes(&[], 3).is_empty());
        assert_eq!(sizes(&[1; 7], 3), [3, 3, 1]);
        assert_eq!(sizes(&[PATHS / 2; 5], 40), [2, 2, 1]);
        assert_eq!(sizes(&[1, 2 * PATHS, 1, 1], 40), [1, 1, 2]);
    }
}

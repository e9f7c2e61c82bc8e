//! `remora registry rm`: removes an entry, or a service with all that stands of it.

use super::registry::{missing, standing as entry};
use super::tell;
use crate::names::ServiceName;
use crate::registry::layout::{Kind, Scope};
use crate::registry::{Node, Source, Trouble, Write};

/// Removes an entry and what stands below it; says what else keeps a service alive.
pub(super) async fn one(source: &Source, kind: Kind, name: &str) -> Result<(), String> {
    let (path, there) = entry(source, kind, name).await?;
    if there.is_none() {
        let rest = standing(source, kind, name).await?;
        return Err(match rest.is_empty() {
            true => missing(name),
            false => format!("{name} has no node of its own; {}", rest_of(name, &rest)),
        });
    }
    source.remove(&path).await.map_err(|e| format!("{path}: {e}"))?;
    let rest = standing(source, kind, name).await?;
    if !rest.is_empty() {
        tell(&format!("{path} is removed; {}", rest_of(name, &rest)));
    }
    Ok(())
}

/// Removes every node of a service.
pub(super) async fn all(source: &Source, name: &str) -> Result<(), String> {
    let service = ServiceName::new(name).map_err(|e| e.to_string())?;
    let there = read(source, &source.layout().scopes(&service)).await?;
    if there.is_empty() {
        return Err(missing(name));
    }
    let paths = source.layout().removal(&service);
    let writes: Vec<_> = paths.iter().cloned().map(Write::Remove).collect();
    source.write_all(&writes).await.map_err(|broken| {
        let at = paths.get(broken.at).map_or("", String::as_str);
        format!("{at}: {}; repeat the command to go on", broken.trouble)
    })?;
    match there.iter().filter(|node| node.ephemeral).count() {
        0 => {}
        count => tell(&format!(
            "{count} of the nodes of {name} were made by its providers, which register themselves again; stop them first"
        )),
    }
    Ok(())
}

/// What stands of a service; of other kinds nobody asks.
async fn standing(source: &Source, kind: Kind, name: &str) -> Result<Vec<Node>, String> {
    match (kind, ServiceName::new(name)) {
        (Kind::Service, Ok(service)) => read(source, &source.layout().scopes(&service)).await,
        _ => Ok(Vec::new()),
    }
}

/// The nodes that keep a service alive without its own, what that means and how to remove them.
fn rest_of(name: &str, rest: &[Node]) -> String {
    let tops = rest.iter().filter(|node| node.path.matches('/').count() == 2);
    let shown: Vec<_> = tops
        .map(|top| {
            let below = rest
                .iter()
                .filter(|node| node.path.strip_prefix(&top.path).is_some_and(|below| below.starts_with('/')));
            match below.count() {
                0 => top.path.clone(),
                count => format!("{} with {count} below it", top.path),
            }
        })
        .collect();
    format!(
        "still there: {}; without its own node the service is open to everybody now: `remora registry rm --all service {name}` removes the rest",
        shown.join(", ")
    )
}

async fn read(source: &Source, scopes: &[Scope]) -> Result<Vec<Node>, String> {
    source.read(scopes).await.map_err(|e: Trouble| e.to_string())
}

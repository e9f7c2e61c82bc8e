//! `remora registry export` and `import`: a whole registry, out and in.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{print, tell};
use crate::registry::transfer::{self, Change, Document, Plan, Wish};
use crate::registry::{BrokenOff, Source, Spared};

/// Largest document.
const MAX_FILE: u64 = 256 << 20;
/// So many problems of one document are told.
const MAX_PROBLEMS: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Import {
    /// What `export` wrote, of either layout; `-` reads stdin
    file: PathBuf,
    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Also remove lasting entries that the file doesn't have
    #[arg(long)]
    prune: bool,
    /// Also write entries that remora can't read, as they are
    #[arg(long)]
    as_is: bool,
}

/// Prints every lasting entry; fails after that if there is more in the registry.
pub(super) async fn export(source: &Source) -> Result<(), String> {
    let layout = source.layout();
    let nodes = source.read(&transfer::scopes(layout)).await.map_err(|e| e.to_string())?;
    let found = transfer::gather(layout, &nodes).locked(layout);
    print(&found.document.to_yaml())?;
    if found.ephemeral > 0 {
        tell(&format!("{} self-registered nodes are left out; they register themselves", found.ephemeral));
    }
    for (path, reason) in &found.left_out {
        tell(&format!("{}{path}: left out: {reason}", source.root()));
    }
    match found.left_out.len() {
        0 => Ok(()),
        1 => Err("1 node could not be carried over".into()),
        count => Err(format!("{count} nodes could not be carried over")),
    }
}

/// Writes a document into the registry, after telling what that changes.
pub(super) async fn import(source: &Source, args: Import) -> Result<(), String> {
    let name = if args.file == Path::new("-") { "stdin".into() } else { args.file.display().to_string() };
    let text = read(&args.file).map_err(|e| format!("{name}: {e}"))?;
    let document = Document::read(&text).map_err(|reason| format!("{name}: {reason}"))?;
    let layout = source.layout();
    let nodes = source.read(&transfer::scopes(layout)).await.map_err(|e| e.to_string())?;
    let wish = Wish { prune: args.prune, as_is: args.as_is };
    let plan =
        transfer::plan(layout, document, &nodes, wish).map_err(|all| refused(&name, &all, args.as_is))?;
    plan.notes.iter().for_each(|note| tell(note));
    print(&diff(&plan))?;
    if args.dry_run {
        return print("dry run: nothing was written\n");
    }
    write(source, &plan).await
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().take(MAX_FILE + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
    };
    read.map_err(|e| format!("it can't be read: {e}"))?;
    if text.len() as u64 > MAX_FILE {
        return Err("it is over 256MiB; import it in parts".into());
    }
    Ok(text)
}

fn refused(name: &str, problems: &[String], as_is: bool) -> String {
    let mut text = format!("{name}: nothing was written");
    for problem in problems.iter().take(MAX_PROBLEMS) {
        // writing to a string can't fail
        let _ = write!(text, "\n  {problem}");
    }
    if problems.len() > MAX_PROBLEMS {
        let _ = write!(text, "\n  and {} more", problems.len() - MAX_PROBLEMS);
    }
    let way_out = if as_is { "" } else { "; --as-is writes entries that remora can't read all the same" };
    text + "\nmend the file" + way_out
}

fn diff(plan: &Plan) -> String {
    let (mut added, mut changed, mut removed) = (0, 0, 0);
    let mut text = String::new();
    for change in &plan.changes {
        match change.sign() {
            '+' => added += 1,
            '-' => removed += 1,
            _ => changed += 1,
        }
        let _ = writeln!(text, "{change}");
    }
    text + &format!("{added} added, {changed} changed, {removed} removed, {} unchanged\n", plan.unchanged)
}

async fn write(source: &Source, plan: &Plan) -> Result<(), String> {
    let writes = plan.writes();
    if writes.is_empty() {
        return Ok(());
    }
    let kept = source.write_all(&writes).await.map_err(|broken| broken_off(plan, broken))?;
    for Spared { at, path } in kept {
        let what = plan.changes.get(at).map_or_else(|| "an empty parent".into(), Change::what);
        let node = format!("{}{path}", source.root());
        tell(&format!("{what}: it stays: {node} changed, or got something below it, since it was read"));
    }
    Ok(())
}

fn broken_off(plan: &Plan, broken: BrokenOff) -> String {
    let BrokenOff { at, written, trouble } = broken;
    let all = plan.changes.len();
    let Some(failed) = plan.changes.get(at) else {
        return format!("an empty parent could not be removed: {trouble}; all {all} changes were written");
    };
    let last = written.checked_sub(1).and_then(|last| plan.changes.get(last));
    let up_to = last.map(|last| format!(", up to {}", last.what())).unwrap_or_default();
    let what = failed.what();
    format!("{what}: {trouble}; {written} of {all} changes were written{up_to}; import again to go on")
}

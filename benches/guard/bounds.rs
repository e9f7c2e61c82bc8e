//! What each call may cost: `benches/guard/bounds`, and how it was in the commit before.

use std::collections::BTreeMap;
use std::process::Command;

/// From the top of the repository.
pub(crate) const FILE: &str = "benches/guard/bounds";

/// By row: instructions and allocations.
pub(crate) struct Bounds(BTreeMap<String, [f64; 2]>);

impl Bounds {
    pub(crate) fn read() -> Bounds {
        Bounds::parse(&std::fs::read_to_string(FILE).unwrap())
    }

    fn parse(text: &str) -> Bounds {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let row = |line: &str| {
            let [name, instructions, allocations] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{FILE}: \"{line}\" is not: name instructions allocations");
            };
            (name.to_owned(), [instructions, allocations].map(|bound| bound.parse().unwrap()))
        };
        Bounds(lines.map(row).collect())
    }

    pub(crate) fn of(&self, row: &str) -> Option<[f64; 2]> {
        self.0.get(row).copied()
    }

    /// A line for each that is higher than in the last commit or in the one before it; without git there is none.
    pub(crate) fn risen(&self) -> Vec<String> {
        let earlier = ["HEAD", "HEAD~"].into_iter().filter_map(|commit| Some((commit, Bounds::at(commit)?)));
        let mut risen = Vec::new();
        for (commit, earlier) in earlier {
            for (row, now) in &self.0 {
                let Some(before) = earlier.of(row) else { continue };
                if now.iter().zip(before).any(|(now, before)| *now > before) {
                    risen.push(format!(
                        "{row}: bound {now:?} is over {before:?} of {commit}; they only go down: make the call cheaper, \
                         or give what is another call now another name"
                    ));
                }
            }
        }
        risen
    }

    fn at(commit: &str) -> Option<Bounds> {
        let shown = Command::new("git").args(["show", &format!("{commit}:{FILE}")]).output().ok()?;
        shown.status.success().then(|| Bounds::parse(&String::from_utf8_lossy(&shown.stdout)))
    }
}

//! What is wrong with a configuration, all of it at once.

use std::fmt;

use crate::words;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `providers[0].weight`; empty for the file as a whole.
    pub path: String,
    /// What, with the value, the limit and the way out.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&words::line(&self.message)),
            path => f.write_str(&words::line(&format!("{path}: {}", self.message))),
        }
    }
}

/// Everything that is wrong, in the order it was found; its Display is one line for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes one more; the first about a value is the one that counts.
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if path.is_empty() || !self.0.iter().any(|known| known.path == path) {
            self.0.push(Problem { path, message: message.into() });
        }
    }

    /// Notes that `path` has to be given, unless something written there was already refused.
    pub(super) fn missing(&mut self, path: &str, message: impl Into<String>) {
        if !self.0.iter().any(|known| is_at_or_below(&known.path, path)) {
            self.add(path, message);
        }
    }

    /// Tells of every problem which variable brought it; `set` holds paths and variables.
    pub(super) fn blame(&mut self, set: &[(String, String)]) {
        for problem in &mut self.0 {
            let brought = |(path, _): &&(String, String)| {
                is_at_or_below(&problem.path, path)
                    || problem.message.starts_with(NO_SUCH_KEY) && is_at_or_below(path, &problem.path)
            };
            if let Some((_, variable)) = set.iter().filter(brought).max_by_key(|(path, _)| path.len()) {
                problem.message.push_str(&format!(" (from {variable})"));
            }
        }
    }

    /// Hands out what is good, and notes what isn't.
    pub(super) fn keep<T, E: fmt::Display>(&mut self, path: &str, outcome: Result<T, E>) -> Option<T> {
        outcome.map_err(|reason| self.add(path, reason.to_string())).ok()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

const NO_SUCH_KEY: &str = "there is no such key";

/// What to say of a key nobody knows: the key it was likely meant to be, or all there are.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    match words::nearest(key, known) {
        Some(name) => format!("{NO_SUCH_KEY}; did you mean `{name}`?"),
        None => format!("{NO_SUCH_KEY}; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_the_one_meant_or_all_there_are() {
        let known = ["registry", "listen", "drain"];
        assert_eq!(unknown_key("regstry", &known), "there is no such key; did you mean `registry`?");
        assert_eq!(unknown_key("quota", &known), "there is no such key; known here: registry, listen, drain");
    }
}

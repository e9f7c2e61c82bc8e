//! Takes any bytes for a configuration, and asserts that it is read back as it is shown, or refused with messages
//! that name the place. Shared by the fuzz target and by the test that runs the corpus.

use std::io::Write;

use remora::config::{self, Config, Problem};
use serde_json::Value;

use super::message;

/// The bytes of the file; behind a NUL come variables, `NAME=value`, with a NUL between them.
pub(crate) fn run(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let file = parts.next().unwrap_or_default();
    let variable = |part: &[u8]| {
        let text = String::from_utf8_lossy(part).into_owned();
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let env: Vec<_> = parts.filter_map(variable).collect();
    match load(file, env) {
        Ok(config) => check_shown(&config),
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            problems.iter().for_each(check_problem);
        }
    }
}

fn load(bytes: &[u8], env: Vec<(String, String)>) -> Result<Config, Vec<Problem>> {
    let mut file = tempfile::NamedTempFile::with_prefix("remora-").expect("there is room for a file");
    file.write_all(bytes).expect("there is room for a file");
    let problems = |problems: config::Problems| problems.0;
    config::load(Some(file.path()), env).map_err(problems)
}

fn check_problem(problem: &Problem) {
    message::check(&problem.to_string());
    assert!(!problem.path.is_empty() || problem.message.contains("remora-"), "no place: {problem}");
}

/// What is shown is a configuration that means the same, as far as no secret is in it.
fn check_shown(config: &Config) {
    let mut shown = config.to_value();
    config.notes.iter().for_each(|note| message::check(note));
    for hidden in ["notes", "caller", "memory"] {
        shown.as_object_mut().map(|fields| fields.remove(hidden));
    }
    if shown.to_string().contains("${") {
        // a value that looks like a variable can't be written down
        return;
    }
    let again = load(shown.to_string().as_bytes(), Vec::new());
    let mut again = again.unwrap_or_else(|problems| panic!("{shown}: {problems:?}")).to_value();
    for hidden in ["notes", "caller", "memory"] {
        again.as_object_mut().map(|fields| fields.remove(hidden));
    }
    assert_eq!(again, shown, "a configuration as shown is read back");
    assert_ne!(shown, Value::Null);
}

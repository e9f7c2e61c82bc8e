//! Where in a value something stands, found by reading again up to it.

use crate::buffer::Buffer;
use crate::codec::Reader;
use crate::event::{Event, Refusal};
use crate::{Fault, text};

/// Longest key shown in a path, in characters.
const KEY_SHOWN: usize = 64;
/// Most steps shown in a path; of a deeper one the middle is left out.
const STEPS_SHOWN: usize = 32;

enum Step {
    Index(usize),
    /// Before a key: `None`; before its value: the key.
    Key(Option<String>),
}

/// The fault for the event that `reader` gave last and a writer refused.
pub(crate) fn explain(reader: &Reader<'_>, root: &str, refusal: Refusal) -> Fault {
    let mut again = reader.rewound();
    let steps = walk(&mut again, reader.start());
    let reason = match refusal {
        Refusal::Because(reason) => reason,
        Refusal::Full(most) => return Fault::TooLong { most },
        Refusal::Object(target) => match again.pull() {
            Ok(Some(Event::Str(class))) => object(&class, target),
            Ok(Some(Event::Bytes(class))) => object(&String::from_utf8_lossy(class), target),
            _ => format!("a PHP reference to an earlier value cannot become {target}"),
        },
    };
    Fault::Unadaptable { path: render(root, &steps), reason }
}

fn object(class: &str, target: &str) -> String {
    format!("a PHP object of class {} cannot become {target}", text::shorten(class, KEY_SHOWN))
}

/// Reads up to and with the event that starts at `until`.
fn walk(reader: &mut Reader<'_>, until: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Ok(Some(event)) = reader.pull() {
        // an `End` of msgpack has no bytes of its own and may share an offset
        if event != Event::End && reader.start() >= until {
            break;
        }
        if event == Event::Array {
            steps.push(Step::Index(0));
        } else if event == Event::Map {
            steps.push(Step::Key(None));
        } else if event == Event::End {
            steps.pop();
            advance(&mut steps, None);
        } else {
            advance(&mut steps, Some(&event));
        }
    }
    steps
}

fn advance(steps: &mut [Step], done: Option<&Event<'_>>) {
    match steps.last_mut() {
        Some(Step::Index(index)) => *index += 1,
        Some(Step::Key(key @ None)) => *key = Some(key_text(done)),
        Some(Step::Key(key @ Some(_))) => *key = None,
        None => {}
    }
}

fn key_text(event: Option<&Event<'_>>) -> String {
    match event {
        Some(Event::Str(key)) => key.clone().into_owned(),
        Some(Event::Int(key)) => key.to_string(),
        Some(Event::UInt(key)) => key.to_string(),
        Some(other) => other.kind().to_owned(),
        None => "?".to_owned(),
    }
}

fn render(root: &str, steps: &[Step]) -> String {
    let mut path = root.to_owned();
    let hidden =
        if steps.len() > STEPS_SHOWN { STEPS_SHOWN / 2..steps.len() - STEPS_SHOWN / 2 } else { 0..0 };
    for (place, step) in steps.iter().enumerate() {
        if hidden.contains(&place) {
            path.push_str(if place == hidden.start { "…" } else { "" });
            continue;
        }
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(Some(key)) => push_key(&mut path, key),
            Step::Key(None) => {}
        }
    }
    path
}

/// Appends `.key`, or `["key"]` where the key is not a plain word.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let plain = key.chars().all(|c| c.is_alphanumeric() || c == '_')
        && key.chars().next().is_some_and(|c| !c.is_ascii_digit());
    let shown = text::shorten(key, KEY_SHOWN);
    if plain {
        path.push('.');
        path.push_str(&shown);
    } else {
        let mut quoted = Buffer::default();
        text::push_json_string(&mut quoted, shown.as_bytes());
        path.push('[');
        path.push_str(&String::from_utf8_lossy(quoted.as_slice()));
        path.push(']');
    }
}

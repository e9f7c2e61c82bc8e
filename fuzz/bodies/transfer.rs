//! Takes any bytes for an exported registry, and asserts that what is read of it is written and read again as it was,
//! and that either layout takes it or tells why not. Shared by the fuzz target and by the test that runs the corpus.

use remora::model::Layout;
use remora::registry::transfer::{self, Document, Wish};

use super::message;

/// Never panics, whatever `data` is, unless a promise is broken.
pub(crate) fn run(data: &[u8]) {
    // who gives no text is told so before
    let Ok(text) = str::from_utf8(data) else { return };
    let document = match Document::read(text) {
        Ok(document) => document,
        Err(reason) => return message::check(&reason),
    };
    let written = document.to_yaml();
    let again = Document::read(&written);
    let again = again.unwrap_or_else(|reason| panic!("what is written is read back: {reason}: {written}"));
    assert_eq!(again.to_yaml(), written, "what is written is read back");
    for layout in [Layout::Flat, Layout::Tree] {
        for as_is in [false, true] {
            check_plan(layout, document.clone(), Wish { prune: true, as_is });
        }
    }
}

/// Into a registry that is empty.
fn check_plan(layout: Layout, document: Document, wish: Wish) {
    match transfer::plan(layout, document, &[], wish) {
        Ok(plan) => {
            plan.notes.iter().for_each(|note| message::check(note));
            let shown = |change: &transfer::Change| change.to_string();
            assert!(
                plan.changes.iter().map(shown).all(|change| change.starts_with('+')),
                "{:?}",
                plan.changes
            );
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            problems.iter().for_each(|problem| message::check(problem));
        }
    }
}

//! Which arrays are lists, found out before they are read.
//!
//! Only an array of two entries or more whose first key is 0 has to be read for it; what is
//! found of all the arrays inside is kept, so every byte is looked at twice at most.

use std::collections::VecDeque;

use super::token::{Key, Token, Tokens};
use crate::MAX_DEPTH;

/// Whether the arrays that have to be read for it are lists, in the order they begin.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: VecDeque<bool>,
    /// Empty between two looks; kept for its memory.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    /// Its place in the queue, if it is in doubt.
    place: Option<usize>,
    entries: u64,
    left: u64,
}

impl Shapes {
    /// Whether the array whose entries begin at `tokens`, inside `depth` others, is a list.
    pub(super) fn is_list(&mut self, tokens: &Tokens<'_>, entries: u64, depth: usize) -> bool {
        if let Some(known) = at_once(tokens, entries) {
            return known;
        }
        if self.known.is_empty() {
            let mut open = std::mem::take(&mut self.open);
            self.look(tokens.clone(), entries, depth, &mut open);
            open.clear();
            self.open = open;
        }
        self.known.pop_front().unwrap_or_default()
    }

    /// Goes through one array. At a fault it stops: the reader will come no further either.
    fn look(&mut self, mut tokens: Tokens<'_>, entries: u64, depth: usize, open: &mut Vec<Open>) {
        self.enter(&tokens, entries, open);
        while let Some(top) = open.last_mut() {
            let index = top.entries - top.left;
            if top.left == 0 {
                open.pop();
                if tokens.close().is_err() {
                    return;
                }
                continue;
            }
            top.left -= 1;
            let Ok(key) = tokens.key() else { return };
            let in_order = matches!(key, Key::Int(key) if u64::try_from(key) == Ok(index));
            if let Some(list) = top.place.filter(|_| !in_order).and_then(|place| self.known.get_mut(place)) {
                *list = false;
            }
            let Ok(value) = tokens.value() else { return };
            if let Token::Array(entries) | Token::Object { properties: entries, .. } = value {
                if depth + open.len() >= MAX_DEPTH {
                    return;
                }
                if let Token::Array(_) = value {
                    self.enter(&tokens, entries, open);
                } else {
                    open.push(Open { place: None, entries, left: entries });
                }
            }
        }
    }

    fn enter(&mut self, tokens: &Tokens<'_>, entries: u64, open: &mut Vec<Open>) {
        let place = at_once(tokens, entries).is_none().then_some(self.known.len());
        if place.is_some() {
            self.known.push_back(true);
        }
        open.push(Open { place, entries, left: entries });
    }
}

/// Whether an array is a list, if its first key tells.
fn at_once(tokens: &Tokens<'_>, entries: u64) -> Option<bool> {
    if entries == 0 {
        return Some(true);
    }
    let from_zero = tokens.clone().key() == Ok(Key::Int(0));
    (entries == 1 || !from_zero).then_some(from_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many arrays are known once the first one was asked for.
    fn known(value: &[u8]) -> usize {
        let (mut tokens, mut shapes) = (Tokens::new(value), Shapes::default());
        let Ok(Token::Array(entries)) = tokens.value() else { return 0 };
        shapes.is_list(&tokens, entries, 0);
        shapes.known.len()
    }

    #[test]
    fn one_look_finds_out_about_every_array_inside() {
        let deep = "a:2:{i:0;".repeat(400) + &"N;i:1;N;}".repeat(400);
        assert_eq!(known(deep.as_bytes()), 399);
        let wide = "i:0;a:2:{i:0;N;i:1;N;}i:1;a:2:{i:0;N;i:2;N;}";
        assert_eq!(known(format!("a:2:{{{wide}}}").as_bytes()), 2);
        // the first key tells of these
        assert_eq!(known(b"a:2:{i:0;a:1:{i:0;N;}i:1;a:0:{}}"), 0);
        assert_eq!(known(b"a:2:{i:1;a:2:{i:0;N;i:1;N;}i:2;N;}"), 0);
    }
}

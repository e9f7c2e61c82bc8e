//! What holds of every message to people.

/// Longest message, in characters: a line that can be read, whatever it quotes.
const LONGEST: usize = 500;

/// A message says something, in one line that ends.
pub(crate) fn check(message: &str) {
    assert!(!message.trim().is_empty(), "a message says something");
    assert!(!message.contains(char::is_control), "one line: {message:?}");
    let length = message.chars().count();
    assert!(length <= LONGEST, "{length} characters: {message}");
}

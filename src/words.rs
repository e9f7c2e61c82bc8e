//! Words: which one a misspelled one was meant to be, and messages of the YAML reader cut to what helps.

/// The word of `known` that `word` was likely meant to be; none where nothing comes close.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (edits, name) = known.iter().map(|name| (edits(word, name), *name)).min()?;
    (edits <= 2.min(word.len() / 2)).then_some(name)
}

/// Letters to insert, drop or replace to make one word of the other.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (b, cell) in other.chars().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// What is wrong with a YAML text, and where: the lines below the first draw the place.
pub fn of_yaml(message: &str) -> &str {
    let first = message.lines().next().unwrap_or_default();
    // advice to whoever wrote the program, not to whoever wrote the file
    match first.split_once("set DuplicateKeyPolicy") {
        Some((before, _)) => before.trim_end_matches([' ', ',', ';', '(', '-', '—']),
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_told_the_word_it_was_meant_to_be() {
        let known = ["registry", "listen", "drain"];
        assert_eq!(nearest("regstry", &known), Some("registry"));
        assert_eq!(nearest("lisetn", &known), Some("listen"));
        assert_eq!(nearest("quota", &known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}

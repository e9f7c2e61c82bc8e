//! W3C `tracestate`, as level 2 of the standard has it: what vendors tell each other along a trace.

const MOST_MEMBERS: usize = 32;
/// Longest key and longest value, in bytes.
const LONGEST: usize = 256;

/// Whether the lines of this header are a list of keys and values; one line or member that isn't spoils all.
pub fn is_tracestate<'l>(lines: impl Iterator<Item = &'l [u8]>) -> bool {
    let members = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // an empty one is none
    let mut members = members.filter(|member| !member.is_empty());
    members.by_ref().take(MOST_MEMBERS).all(is_member) && members.next().is_none()
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (&member[..at], &member[at + 1..]);
    is_key(key) && is_value(value)
}

fn is_key(key: &[u8]) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_in = |byte: &u8| is_first(byte) || b"_-*/@".contains(byte);
    key.len() <= LONGEST && key.first().is_some_and(is_first) && key.iter().all(is_in)
}

/// Blanks at its end are none of it.
fn is_value(value: &[u8]) -> bool {
    let is_in = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'=';
    (1..=LONGEST).contains(&value.len()) && value.iter().all(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_good(lines: &[&str]) -> bool {
        is_tracestate(lines.iter().map(|line| line.as_bytes()))
    }

    fn members(count: usize) -> String {
        (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn what_the_standard_has_is_good() {
        let long = format!("{}={}", "k".repeat(256), "v".repeat(256));
        for lines in [
            &[][..],
            &[""],
            &[" , \t,"],
            &["foo=1"],
            &["foo=1", "", "bar=2"],
            &["foo=1 , \tbar= 2 ,"],
            &["0tenant_-*/@vendor=!\"#$%&'()*+-./:;<>?@[]^_`{|}~ x"],
            &["foo=1,foo=2"],
            &[&long],
            &[&members(32)],
        ] {
            assert!(is_good(lines), "{lines:?}");
        }
    }

    #[test]
    fn what_breaks_the_standard_spoils_all() {
        let (key, value) = (format!("{}=v", "k".repeat(257)), format!("k={}", "v".repeat(257)));
        for bad in [
            "foo",
            "foo=",
            "=1",
            "Foo=1",
            "foo =1",
            "foo.bar=1",
            "_foo=1",
            "@foo=1",
            "foo=1=2",
            "foo=a\tb",
            "foo=\u{e9}",
            "foo=1,bar",
            &key,
            &value,
            &members(33),
        ] {
            assert!(!is_good(&[bad]), "{bad}");
            assert!(!is_good(&["ok=1", bad]), "{bad}");
        }
        assert!(!is_good(&[&members(20), &members(13)]), "their lines count together");
    }
}

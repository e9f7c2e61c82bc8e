//! Lengths that are known only once what they measure is written.

/// Bytes of the longest head: a count in decimal.
const LONGEST: usize = 20;

/// A byte that stands for a longer head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    at: usize,
    head: [u8; LONGEST],
    len: usize,
}

impl Gap {
    /// The byte at `at` stands for `head`, of 1 to 20 bytes.
    pub(crate) fn new(at: usize, head: &[u8]) -> Self {
        let mut bytes = [0; LONGEST];
        let len = head.len().min(LONGEST);
        for (place, byte) in bytes.iter_mut().zip(head) {
            *place = *byte;
        }
        Self { at, head: bytes, len }
    }

    fn head(&self) -> &[u8] {
        self.head.get(..self.len).unwrap_or_default()
    }
}

/// `out` with every gap replaced by its head, in one pass from the end; so no nesting makes copying
/// quadratic.
pub(crate) fn widen(mut out: Vec<u8>, gaps: &mut [Gap]) -> Vec<u8> {
    if gaps.is_empty() {
        return out;
    }
    gaps.sort_unstable_by_key(|gap| gap.at);
    let mut read = out.len();
    let mut write = read + gaps.iter().map(|gap| gap.len - 1).sum::<usize>();
    out.resize(write, 0);
    for gap in gaps.iter().rev() {
        let body = gap.at + 1..read;
        write -= body.len();
        out.copy_within(body, write);
        let head = gap.head();
        write -= head.len();
        if let Some(place) = out.get_mut(write..write + head.len()) {
            place.copy_from_slice(head);
        }
        read = gap.at;
    }
    out
}

//! Lengths that are known only once what they measure is written.

/// `out` with every byte named in `heads` replaced by its longer bytes, in one pass from the
/// end; so no nesting makes copying quadratic. A head is never empty.
pub(crate) fn widen(mut out: Vec<u8>, heads: &mut [(usize, Vec<u8>)]) -> Vec<u8> {
    heads.sort_unstable_by_key(|(at, _)| *at);
    let mut read = out.len();
    let mut write = read + heads.iter().map(|(_, head)| head.len() - 1).sum::<usize>();
    out.resize(write, 0);
    for (at, head) in heads.iter().rev() {
        let body = at + 1..read;
        write -= body.len();
        out.copy_within(body, write);
        write -= head.len();
        if let Some(place) = out.get_mut(write..write + head.len()) {
            place.copy_from_slice(head);
        }
        read = *at;
    }
    out
}

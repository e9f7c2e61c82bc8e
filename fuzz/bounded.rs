//! The bound on memory: what an input makes the code hold grows with its length, and no more.

/// The most that may be held at any one moment.
pub(crate) struct Bound {
    /// Whatever the input is, in bytes.
    pub(crate) floor: u64,
    /// For each byte of it.
    pub(crate) per_byte: u64,
}

/// Runs `body` on `data`; more memory than the bound is a finding.
pub(crate) fn run(bound: &Bound, body: impl FnOnce(&[u8]), data: &[u8]) {
    let used = allocation_counter::measure(|| body(data));
    // what lasts was made once for all inputs, or shows in the size of the process
    let held = used.bytes_max.saturating_sub(used.bytes_current.max(0) as u64);
    let most = bound.floor + bound.per_byte * data.len() as u64;
    assert!(held <= most, "{held} bytes held of {most}, for an input of {}", data.len());
}

//! The bound on memory: what an input makes the code hold grows with its length, and no more.

/// Whatever the input is, in bytes.
const FLOOR: u64 = 1 << 20;
/// For each byte of it.
const PER_BYTE: u64 = 1024;

/// Runs `body` on `data`; more memory than the bound at any one moment is a finding.
pub(crate) fn run(body: impl FnOnce(&[u8]), data: &[u8]) {
    let used = allocation_counter::measure(|| body(data));
    // what lasts was made once for all inputs, or shows in the size of the process
    let held = used.bytes_max.saturating_sub(used.bytes_current.max(0) as u64);
    let most = FLOOR + PER_BYTE * data.len() as u64;
    assert!(held <= most, "{held} bytes held of {most}, for an input of {}", data.len());
}

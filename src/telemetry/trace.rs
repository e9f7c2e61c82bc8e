//! W3C trace context: what a caller's `traceparent` says, and a call's own place in its trace.

use std::fmt;
use std::num::NonZeroU64;

/// Length of the form that every version begins with.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
/// By level 2 of the standard: the trace's id is random.
const RANDOM: u8 = 2;
/// The span of a caller, by its `traceparent`; Display writes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// A call that is recorded, in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    /// Of the call itself.
    span: NonZeroU64,
    /// The caller's; 0: the trace begins here.
    parent: u64,
    flags: u8,
}

impl Parent {
    /// Reads version 00, and what later ones have of it; `None`: it says nothing that can be relied on.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_first_chunk::<LENGTH>()?;
        let (version, rest) = known.split_first_chunk()?;
        let (trace, rest) = dashed::<32>(rest)?;
        let (span, rest) = dashed::<16>(rest)?;
        let (flags, _) = dashed::<2>(rest)?;
        let ([high, low], _) = trace.as_chunks() else { return None };
        let trace = u128::from(hex(high)?) << 64 | u128::from(hex(low)?);
        let (span, flags) = (hex(span)?, byte(flags)?);
        let fits = match byte(version)? {
            0 => more.is_empty(),
            // forbidden
            0xff => false,
            _ => more.is_empty() || more.starts_with(b"-"),
        };
        (fits && trace != 0 && span != 0).then_some(Self { trace, span, flags })
    }

    /// Whether the caller records its part of the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// A dash, and what follows it.
fn dashed<const N: usize>(rest: &[u8]) -> Option<(&[u8; N], &[u8])> {
    rest.strip_prefix(b"-")?.split_first_chunk()
}

fn hex(digits: &[u8; 16]) -> Option<u64> {
    let ([high, low], _) = digits.as_chunks() else { return None };
    Some(eight(*high)? << 32 | eight(*low)?)
}

fn byte([high, low]: &[u8; 2]) -> Option<u8> {
    eight([b'0', b'0', b'0', b'0', b'0', b'0', *high, *low]).map(|byte| byte as u8)
}

/// Eight digits at once, each in its byte of one number; `None` where one is no digit, or a capital letter.
fn eight(digits: [u8; 8]) -> Option<u64> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(digits);
    let letters = text >> 6 & EACH;
    let values = (text & (0x0f * EACH)) + 9 * letters;
    // written again they must be the same; letters behind `f` have values over 15
    let above_nine = (values + 6 * EACH) >> 4 & EACH;
    if values & (0xf0 * EACH) != 0 || values + 0x30 * EACH + 39 * above_nine != text {
        return None;
    }
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((fours | fours >> 16) & 0xffff_ffff)
}

impl Trace {
    /// The call as a child of its caller's span; `span` is its own id.
    pub(super) fn below(parent: &Parent, span: u64) -> Self {
        let flags = SAMPLED | parent.flags & RANDOM;
        Self { id: parent.trace, span: some(span), parent: parent.span, flags }
    }

    /// A trace that begins with this call.
    pub(super) fn new(id: u128, span: u64) -> Self {
        Self { id: id.max(1), span: some(span), parent: 0, flags: SAMPLED | RANDOM }
    }

    /// Whether the caller's trace goes on.
    pub fn continues(&self) -> bool {
        self.parent != 0
    }

    /// The trace's id, as people write it.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// What a provider at `address` is told: its span is the child of the attempt there.
    pub fn toward(&self, address: &str) -> Parent {
        Parent { trace: self.id, span: self.attempt(address), flags: self.flags }
    }

    /// The span of the attempt at a provider. A call is at each one once, so the address tells them apart.
    fn attempt(&self, address: &str) -> u64 {
        let mut mixed = self.span.get();
        for byte in address.bytes() {
            mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).max(1)
    }

    /// Ids as bytes: of the trace, of the call's span, of its caller's, or empty where it has none.
    pub(super) fn ids(&self) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let parent = if self.parent == 0 { Vec::new() } else { self.parent.to_be_bytes().into() };
        (self.id.to_be_bytes().into(), self.span.get().to_be_bytes().into(), parent)
    }

    /// The id of the attempt at a provider as bytes.
    pub(super) fn attempt_id(&self, address: &str) -> Vec<u8> {
        self.attempt(address).to_be_bytes().into()
    }

    pub(super) fn flags(&self) -> u32 {
        u32::from(self.flags)
    }
}

/// No id is all zeros.
fn some(id: u64) -> NonZeroU64 {
    NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN)
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(text: &str) -> Option<Parent> {
        Parent::parse(text.as_bytes())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let parent = parse(GOOD).unwrap();
        assert_eq!(parent.to_string(), GOOD);
        assert!(parent.is_sampled());
        let unsampled = GOOD.replace("-01", "-00");
        assert_eq!(parse(&unsampled).map(|parent| parent.is_sampled()), Some(false));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = GOOD.replacen("00-", "cc-", 1);
        for good in [later.clone(), format!("{later}-what-the-future-holds"), format!("{later}-")] {
            assert_eq!(parse(&good).map(|parent| parent.to_string()).as_deref(), Some(GOOD), "{good}");
        }
        assert_eq!(parse(&format!("{later}.x")), None);
    }

    #[test]
    fn what_breaks_the_standard_says_nothing() {
        let zero_trace = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let zero_span = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16));
        let (short, long) = (&GOOD[..54], format!("{GOOD}-x"));
        let (capital, forbidden) = (GOOD.to_uppercase(), GOOD.replacen("00", "ff", 1));
        let (blank, dot) = (GOOD.replacen("-b7", " b7", 1), GOOD.replacen("-01", ".01", 1));
        let letters = GOOD.replacen("0af", "0xg", 1);
        for bad in
            ["", "00", short, &long, &capital, &forbidden, &zero_trace, &zero_span, &blank, &dot, &letters]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_attempt_is_the_child_of_the_call_and_the_parent_of_its_provider() {
        let parent = parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03").unwrap();
        let call = Trace::below(&parent, 7);
        let (one, other) = (call.toward("10.0.0.1:80"), call.toward("10.0.0.2:80"));
        assert_eq!((one.trace, one.flags), (parent.trace, 3), "the trace goes on, random as it is");
        assert!(one.span != other.span && ![0, 7, parent.span].contains(&one.span));
        assert_eq!(call.toward("10.0.0.1:80"), one);
        assert_eq!(call.attempt_id("10.0.0.1:80"), one.span.to_be_bytes());
        assert!(call.continues() && !Trace::new(0, 0).continues());
        assert_eq!(Trace::new(0, 0).ids().0.last(), Some(&1), "no id is all zeros");
    }
}

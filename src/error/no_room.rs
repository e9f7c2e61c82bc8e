//! Whose room for bodies is used up.

use std::fmt;

/// The bytes that are held, and by whom they may be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NoRoom {
    /// Whose part of it.
    pub whose: Whose,
    /// Bytes that other calls hold of it.
    pub held: u64,
    /// Bytes that may be held of it.
    pub most: u64,
}

/// Whose part of this sidecar's room is used up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Whose {
    /// All of it.
    #[default]
    All,
    /// That of this service.
    Service(String),
    /// That of calls to services that aren't there.
    Strays,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = about(self.most);
        let held = about(self.held);
        match &self.whose {
            Whose::All => write!(f, "this sidecar holds {most} of bodies that it converts, its `buffers`"),
            Whose::Service(service) => write!(
                f,
                "other calls to service \"{service}\" hold {held} of bodies that are converted, and with this one's \
                 it would be over {most}, the part of this sidecar's `buffers` that one service may take; lower \
                 its `concurrency` or `timeout`, or raise `buffers`"
            ),
            Whose::Strays => write!(
                f,
                "no such service is known, and other calls like this one hold {held} of bodies; with this one's it \
                 would be over {most}, the part of this sidecar's `buffers` that they all may take; look for \
                 `no-service` in the log"
            ),
        }
    }
}

/// To a tenth of the unit that people read.
fn about(bytes: u64) -> String {
    let (in_all, unit) = match bytes {
        0..10_240 => (bytes as f64, "B"),
        10_240..1_048_576 => (bytes as f64 / f64::from(1 << 10), "KiB"),
        _ => (bytes as f64 / f64::from(1 << 20), "MiB"),
    };
    let tenths = format!("{in_all:.1}");
    format!("{}{unit}", tenths.trim_end_matches(".0"))
}

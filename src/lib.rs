//! Remora: a sidecar for PHP hosts.

pub mod balance;
pub mod config;
pub mod directory;
pub mod model;
pub mod names;
pub mod peer;
pub mod probe;
pub mod registry;
pub mod units;

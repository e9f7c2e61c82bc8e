//! Remora: a sidecar for PHP hosts.

pub mod admin;
pub mod alarm;
pub mod app;
pub mod balance;
pub mod cli;
pub mod config;
pub mod directory;
pub mod error;
pub mod explain;
pub mod gateway;
pub mod health;
pub mod http1;
pub mod limits;
pub mod listen;
pub mod model;
pub mod names;
pub mod otlp;
pub mod peer;
pub mod probe;
pub mod registry;
pub mod socket;
pub mod telemetry;
pub mod tls;
pub mod units;
pub mod upstream;
pub mod words;

//! Remora: a sidecar for PHP hosts.

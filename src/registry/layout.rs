//! Znode paths and payloads ↔ model, `flat` and `tree`.

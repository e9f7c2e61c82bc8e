//! JSON to msgpack, and what is told where a value has no form on the other side.
//!
//! ```sh
//! echo '{"id":7,"price":3.0}' | cargo run -p proto-adapters --example json_to_msgpack | xxd
//! ```

use std::error::Error;
use std::io::{Read, Write};

use proto_adapters::{Fault, Options, Wire, transcode};

/// The same value in msgpack: 3.0 stays a float, and 64-bit integers stay exact.
pub(crate) fn convert(json: &[u8]) -> Result<Vec<u8>, String> {
    transcode(Wire::Json, Wire::Msgpack, json, "$", Options::default()).map_err(|fault| match fault {
        Fault::Malformed { at, reason } => format!("no JSON: {reason}, at byte {at}"),
        Fault::Unadaptable { path, reason } => format!("{path} has no form in msgpack: {reason}"),
        Fault::TooLong { .. } => fault.to_string(),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut json = Vec::new();
    std::io::stdin().read_to_end(&mut json)?;
    std::io::stdout().write_all(&convert(&json)?)?;
    Ok(())
}

//! What a Yar client sent: who calls what, and with which parameters.
//!
//! ```sh
//! cargo run -p proto-adapters --example decode_yar < message.bin
//! ```

use std::error::Error;
use std::io::{Read, Write};

use proto_adapters::yar::HEAD;
use proto_adapters::{Fault, Header, Options, Request, params_to_body};

/// One line for a whole request.
pub(crate) fn summary(message: &[u8]) -> Result<String, Fault> {
    let header = Header::parse(message)?;
    let payload = message.get(HEAD..).unwrap_or_default();
    let request = Request::read(header.packager, payload)?;
    // ranges are offsets into the payload: nothing was copied yet
    let params = payload.get(request.params).unwrap_or_default();
    let json = params_to_body(header.packager.wire(), params, Options::default())?;
    let (id, method, packager) = (header.id, request.method, header.packager.name());
    Ok(format!("{id} {method} {} ({packager})", String::from_utf8_lossy(&json)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut message = Vec::new();
    std::io::stdin().read_to_end(&mut message)?;
    writeln!(std::io::stdout(), "{}", summary(&message)?)?;
    Ok(())
}

//! A Yar server's answer to a request that it can't serve: an exception in the caller's own packager, which a PHP
//! client throws as `Yar_Server_Exception`.
//!
//! ```sh
//! cargo run -p proto-adapters --example answer_with_exception < request.bin > answer.bin
//! ```

use std::error::Error;
use std::io::{Read, Write};

use proto_adapters::yar::{self, HEAD};
use proto_adapters::{Code, Exception, Header, Packager, Request};

/// The whole answer, whatever was asked.
pub(crate) fn answer(request: &[u8]) -> Vec<u8> {
    let Ok(header) = Header::parse(request) else {
        // the id can't be read, so it is 0; JSON is the packager that every client has
        return yar::encode_exception(Packager::Json, 0, &thrown("this is no Yar request", 400));
    };
    let payload = request.get(HEAD..).unwrap_or_default();
    let exception = match Request::read(header.packager, payload) {
        Ok(request) => thrown(&format!("there is no {}()", request.method), 404),
        Err(fault) => thrown(&fault.to_string(), 400),
    };
    yar::encode_exception(header.packager, header.id, &exception)
}

/// All five fields: old clients read each of them.
fn thrown(message: &str, code: i64) -> Exception {
    let class = "Shop\\NotServed".to_owned();
    Exception { message: message.to_owned(), code: Code::Int(code), file: String::new(), line: 0, class }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut request = Vec::new();
    std::io::stdin().read_to_end(&mut request)?;
    std::io::stdout().write_all(&answer(&request))?;
    Ok(())
}

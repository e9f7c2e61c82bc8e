//! Takes any bytes for what a caller sends on an HTTP/1 connection, cuts them in many ways, and asserts that the cuts
//! change nothing, no byte is told twice, and no length is told in two ways. Shared by the fuzz target and by the test
//! that runs the corpus.

use bytes::Bytes;
use remora::http1::body::Part;
use remora::http1::request::{Reader, Refused};

/// What is seen of a request: method, URL, headers, body, trailers, whether the connection stays.
type Seen = (String, String, Vec<(String, Vec<u8>)>, Vec<u8>, usize, bool);

/// Never panics, whatever `data` is, unless a promise is broken; its first byte says how the rest is cut.
pub(crate) fn run(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = read(std::iter::once(bytes));
    let parted = read(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(parted, whole, "the cuts change nothing");
    let told: usize = whole.0.iter().map(|(.., body, _, _)| body.len()).sum();
    assert!(told <= bytes.len(), "no byte is told twice");
    for (_, _, headers, ..) in &whole.0 {
        let names = headers.iter().map(|(name, _)| name.as_str());
        let of_length = names.filter(|name| ["content-length", "transfer-encoding"].contains(name));
        let of_length: std::collections::HashSet<_> = of_length.collect();
        assert!(of_length.len() < 2, "a body has one length");
        let hosts = headers.iter().filter(|(name, _)| name == "host").count();
        assert!(hosts < 2, "a request is for one host");
    }
}

/// All requests, and why what follows them is none.
fn read<'d>(parts: impl IntoIterator<Item = &'d [u8]>) -> (Vec<Seen>, Option<Refused>) {
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    let (mut reader, mut seen) = (Reader::default(), Vec::new());
    loop {
        let head = loop {
            match reader.head() {
                Ok(Some(head)) => break head,
                Ok(None) => match parts.next() {
                    Some(part) => reader.push(Bytes::copy_from_slice(part)),
                    None => return (seen, reader.ended_in_head().err()),
                },
                Err(refused) => return (seen, Some(refused)),
            }
        };
        let (mut body, mut trailers) = (Vec::new(), 0);
        loop {
            match reader.part() {
                Ok(Part::Data(data)) => {
                    assert!(!data.is_empty(), "a part that says nothing would be asked for without end");
                    body.extend_from_slice(&data);
                }
                Ok(Part::Trailers(map)) => trailers = map.len(),
                Ok(Part::End) => break,
                Ok(Part::More) => match parts.next() {
                    Some(part) => reader.push(Bytes::copy_from_slice(part)),
                    None => return (seen, None),
                },
                Err(bad) => return (seen, Some(Refused::NotHttp(bad.why().into()))),
            }
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (text(name), value.to_vec()));
        let (method, url) = (head.method.to_string(), head.uri.to_string());
        seen.push((method, url, headers.collect(), body, trailers, reader.keeps_alive()));
    }
}

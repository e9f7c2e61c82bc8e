//! Takes any bytes for a provider's answer in HTTP/1, cuts them in many ways, and asserts that the cuts change
//! nothing and no byte is told twice. Shared by the fuzz target and by the test that runs the corpus.

use bytes::Bytes;
use remora::http1::answer::{NotHttp, Part, Reader};

/// What is seen of an answer: status, headers, body, trailers, whether the connection stays.
type Seen = (u16, Vec<(String, Vec<u8>)>, Vec<u8>, usize, bool);

/// Never panics, whatever `data` is, unless a promise is broken; its first byte says how the rest is cut, and
/// whether a `HEAD` is answered.
pub(crate) fn run(data: &[u8]) {
    let Some((seed, bytes)) = data.split_first() else { return };
    let is_for_head = seed & 1 == 1;
    let whole = read(std::iter::once(bytes), is_for_head);
    let parted = read(bytes.chunks(usize::from(seed >> 1).max(1)), is_for_head);
    assert_eq!(parted, whole, "the cuts change nothing");
    let Ok((_, headers, body, ..)) = whole else { return };
    assert!(body.len() <= bytes.len(), "no byte is told twice");
    assert!(!is_for_head || body.is_empty(), "an answer to HEAD has no body");
    let names = headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    let of_length = names.filter(|name| ["content-length", "transfer-encoding"].contains(&name.as_str()));
    let of_length: std::collections::HashSet<_> = of_length.collect();
    assert!(of_length.len() < 2 || body.is_empty(), "a body has one length");
}

fn read<'d>(parts: impl IntoIterator<Item = &'d [u8]>, is_for_head: bool) -> Result<Seen, String> {
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    let mut reader = Reader::new(is_for_head);
    let why = |NotHttp(why)| why;
    let head = loop {
        match (reader.head().map_err(why)?, parts.next()) {
            (Some(head), next) => {
                next.into_iter().for_each(|part| reader.push(Bytes::copy_from_slice(part)));
                break head;
            }
            (None, Some(part)) => reader.push(Bytes::copy_from_slice(part)),
            (None, None) => return reader.ended_in_head().map_err(why).and(Err("cut".into())),
        }
    };
    let (mut body, mut trailers) = (Vec::new(), 0);
    loop {
        match reader.part().map_err(|bad| bad.why())? {
            Part::Data(data) => {
                assert!(!data.is_empty(), "a part that says nothing would be asked for without end");
                body.extend_from_slice(&data);
            }
            Part::Trailers(map) => trailers = map.len(),
            Part::End => break,
            Part::More => match parts.next() {
                Some(part) => reader.push(Bytes::copy_from_slice(part)),
                None if reader.may_end() => break,
                None => return Err("cut".into()),
            },
        }
    }
    parts.for_each(|part| reader.push(Bytes::copy_from_slice(part)));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (text(name), value.to_vec()));
    Ok((head.status.as_u16(), headers.collect(), body, trailers, reader.keeps_alive()))
}

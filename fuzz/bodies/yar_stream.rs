//! Takes any bytes for a stream of raw Yar messages, cuts it in many ways, and asserts that the cuts change
//! nothing and memory follows what has arrived. Shared by the fuzz target and by the test that runs the corpus.

use proto_adapters::yar::{self, HEAD, Stream};

/// A message longer than that is refused, in bytes.
const LIMIT: usize = 1 << 20;

/// How a stream ends.
#[derive(Debug, PartialEq)]
enum End {
    /// With so many bytes that are no whole message.
    Open(usize),
    /// With a message of this announced length.
    Refused(usize),
    /// With bytes that are not Yar.
    Broken(String),
}

/// Never panics, whatever `data` is, unless a promise is broken; its first byte says how the rest is cut.
pub(crate) fn run(data: &[u8]) {
    let Some((seed, bytes)) = data.split_first() else { return };
    let (whole, end) = read(std::iter::once(bytes));
    let parted = read(bytes.chunks(usize::from(*seed).max(1)));
    assert_eq!((&parted.0, &parted.1), (&whole, &end), "the cuts change nothing");
    let mut growing = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(growing.len() * 3 + 1));
        growing.push(part);
        rest = behind;
    }
    assert_eq!(read(growing), (whole.clone(), end), "the cuts change nothing");
    let read: usize = whole.iter().map(Vec::len).sum();
    assert_eq!(bytes.get(..read), Some(whole.concat().as_slice()), "messages are the stream's own bytes");
}

fn read<'d>(parts: impl IntoIterator<Item = &'d [u8]>) -> (Vec<Vec<u8>>, End) {
    let (mut stream, mut messages) = (Stream::default(), Vec::new());
    for part in parts {
        let room = stream.room();
        assert!(room.capacity() <= room.len() * 2 + (32 << 10), "memory follows what has arrived");
        room.extend_from_slice(part);
        loop {
            match stream.length() {
                Ok(Some(length)) if length > LIMIT => return (messages, End::Refused(length)),
                Ok(_) => {}
                Err(fault) => return (messages, End::Broken(fault.to_string())),
            }
            match stream.take() {
                Ok(Some(message)) => {
                    assert!(message.len() >= HEAD && yar::is_yar(&message));
                    let _ = (yar::early_method(&message), yar::is_persistent(&message));
                    messages.push(message);
                }
                Ok(None) => break,
                Err(fault) => return (messages, End::Broken(fault.to_string())),
            }
        }
    }
    (messages, End::Open(stream.ahead().len()))
}

//! Messages out of a stream of bytes, as TCP and unix sockets carry them.

use super::header::{self, HEAD, HEADER};
use super::may_become_yar;
use crate::Fault;
use crate::codec::Reader;
use crate::event::Event;

/// Room made for a message of which nothing is known yet, in bytes.
const FIRST: usize = 2 << 10;
/// Least room made for the rest of a long message, in bytes.
const MORE: usize = 16 << 10;

/// Bytes of a stream that are not taken yet, cut into messages by their `body_len`.
///
/// ```
/// use proto_adapters::yar::{self, Packager, Stream};
///
/// let message = yar::encode_request(Packager::Json, 7, b"", b"", "user.get", b"[1]")?;
/// let mut stream = Stream::default();
/// stream.room().extend_from_slice(&message[..100]);
/// assert_eq!(stream.length()?, Some(message.len()));
/// assert_eq!(stream.take()?, None);
/// stream.room().extend_from_slice(&message[100..]);
/// assert_eq!(stream.take()?, Some(message));
/// # Ok::<(), proto_adapters::Fault>(())
/// ```
#[derive(Debug, Default)]
pub struct Stream {
    ahead: Vec<u8>,
}

impl Stream {
    /// A stream that begins with these bytes.
    pub fn new(begun: &[u8]) -> Self {
        Self { ahead: begun.to_vec() }
    }

    /// What has arrived and is not taken yet.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// The same, out of the stream.
    pub fn into_ahead(self) -> Vec<u8> {
        self.ahead
    }

    /// Where arriving bytes are appended, with room for some. The room follows what has arrived, not what is
    /// announced: it at most doubles, and ends with the message.
    pub fn room(&mut self) -> &mut Vec<u8> {
        let have = self.ahead.len();
        let wanted = match self.length() {
            Ok(Some(length)) if length > have => (length - have).min(have.max(MORE)),
            Ok(_) | Err(_) => FIRST,
        };
        self.ahead.reserve_exact(wanted);
        &mut self.ahead
    }

    /// Length of the message that stands first, with its head; `None` until its head is there.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if the bytes are not Yar, or `body_len` has no room for the packager.
    pub fn length(&self) -> Result<Option<usize>, Fault> {
        if !may_become_yar(&self.ahead) {
            return Err(header::no_magic(&self.ahead));
        }
        let Some(body_len) = header::body_len(&self.ahead) else { return Ok(None) };
        let least = HEAD - HEADER;
        if body_len < least {
            let reason = format!("body_len is {body_len}, below the {least} bytes of the packager's name");
            return Err(Fault::malformed(header::BODY_LEN_AT, reason));
        }
        Ok((self.ahead.len() >= HEAD).then(|| body_len.saturating_add(HEADER)))
    }

    /// Takes the first message out, once all of it has arrived.
    ///
    /// # Errors
    /// As [`Self::length`].
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        match self.length()? {
            Some(length) if length <= self.ahead.len() => {
                let rest = self.ahead.split_off(length);
                Ok(Some(std::mem::replace(&mut self.ahead, rest)))
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// The method of a request of which only the beginning is there; PHP writes `m` right behind `i`.
pub fn early_method(message: &[u8]) -> Option<String> {
    let wire = super::Header::parse(message).ok()?.packager.wire();
    let mut reader = Reader::new(wire, message.get(HEAD..)?);
    if reader.first().ok()? != Event::Map {
        return None;
    }
    while let Some(entry) = reader.entry().ok()? {
        if entry.name() == Some("m") {
            return entry.text().map(|method| method.clone().into_owned());
        }
    }
    None
}

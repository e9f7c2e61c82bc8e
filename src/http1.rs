//! HTTP/1 messages: bytes in, heads and bodies out, and the other way round.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

pub mod answer;
pub mod body;
pub mod caller;
pub mod headers;
pub mod reply;
pub mod request;
pub mod writer;

/// Most bytes of a head.
pub const MAX_HEAD: usize = 64 << 10;
/// Most headers of a head, and most trailers.
const MAX_HEADERS: usize = 100;
/// Bytes that are read at once where it is not known how many will come; they are copied to where they fit.
const AT_ONCE: usize = 16 << 10;
/// Most bytes that are read at once.
const MOST_AT_ONCE: u64 = 64 << 10;

/// Reads what is there, of a body that has `left` bytes to come where that is known.
pub fn read(
    stream: &mut (impl AsyncRead + Unpin),
    left: Option<u64>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    if let Some(left) = left.filter(|left| *left >= AT_ONCE as u64) {
        let mut bytes = Vec::with_capacity(left.min(MOST_AT_ONCE) as usize);
        let read = pin!(stream.read_buf(&mut bytes)).poll(cx);
        // little that was read is not kept in much room
        let fits = bytes.len() > bytes.capacity() / 2;
        return read.map_ok(|_| if fits { bytes.into() } else { Bytes::copy_from_slice(&bytes) });
    }
    let mut room = [const { MaybeUninit::uninit() }; AT_ONCE];
    let mut room = ReadBuf::uninit(&mut room);
    let read = Pin::new(stream).poll_read(cx, &mut room);
    read.map_ok(|()| Bytes::copy_from_slice(room.filled()))
}

//! Heads of requests as they pass: finds a length that hyper reads over, but that other programs may obey.

use std::io::BufRead;

/// Bytes of a line that are kept, blanks in a row as one.
const KEPT: usize = 64;

/// Follows the bytes of a connection from head to head, however they are cut.
#[derive(Debug, Default)]
pub(super) struct Heads {
    at: At,
    /// Of the line that is not over yet.
    line: Vec<u8>,
    framing: Framing,
    begun: u64,
    hidden: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    RequestLine,
    Header,
    /// Bytes of it to come.
    Body(u64),
    ChunkSize,
    /// Bytes of it to come.
    Chunk(u64),
    Trailer,
    /// Where the next head begins is not known: any line may be a header.
    Anywhere,
}

/// How the body behind a head is told apart from what follows.
#[derive(Debug, Clone, Copy, Default)]
enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
    Unclear,
}

impl Heads {
    /// The first head that hides a length, counted from 1; 0: none did so far.
    pub(super) fn hidden(&self) -> u64 {
        self.hidden
    }

    /// Whether a head has begun, and is not over.
    pub(super) fn is_in_head(&self) -> bool {
        self.at == At::Header || self.at == At::RequestLine && !self.line.is_empty()
    }

    /// Looks at what was read next.
    pub(super) fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Body(left) => self.skip(bytes, left, At::Body, At::RequestLine),
                At::Chunk(left) => self.skip(bytes, left, At::Chunk, At::ChunkSize),
                At::RequestLine | At::Header | At::ChunkSize | At::Trailer | At::Anywhere => {
                    self.take_line(bytes)
                }
            };
        }
    }

    fn skip<'b>(&mut self, bytes: &'b [u8], left: u64, more: fn(u64) -> At, then: At) -> &'b [u8] {
        let skipped = left.min(bytes.len() as u64);
        self.at = if skipped == left { then } else { more(left - skipped) };
        bytes.get(skipped as usize..).unwrap_or_default()
    }

    fn take_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut rest = bytes;
        // reading from memory can't fail
        let taken = rest.skip_until(b'\n').unwrap_or(bytes.len());
        let end = bytes.get(..taken).and_then(|line| line.strip_suffix(b"\n")).map(<[u8]>::len);
        if let Some(line) = end.and_then(|end| bytes.get(..end)).filter(|_| self.line.is_empty()) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if self.says_nothing(line) {
                if self.at == At::RequestLine || line.is_empty() {
                    self.at = self.after(line);
                }
                return rest;
            }
        }
        for byte in bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default() {
            if self.line.len() == KEPT {
                break;
            }
            if !(is_blank(byte) && self.line.last().is_some_and(is_blank)) {
                self.line.push(*byte);
            }
        }
        if end.is_none() {
            return &[];
        }
        let line = std::mem::take(&mut self.line);
        self.at = self.after(line.strip_suffix(b"\r").unwrap_or(&line));
        self.line = line;
        self.line.clear();
        rest
    }

    /// Whether a whole line tells no length, so that it need not be kept to be read.
    fn says_nothing(&self, line: &[u8]) -> bool {
        match self.at {
            At::RequestLine | At::Trailer => true,
            At::Header | At::Anywhere => !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')),
            At::ChunkSize | At::Body(_) | At::Chunk(_) => false,
        }
    }

    /// Where things stand behind `line`.
    fn after(&mut self, line: &[u8]) -> At {
        match self.at {
            At::RequestLine if line.is_empty() => At::RequestLine,
            At::RequestLine => {
                self.begun += 1;
                self.framing = Framing::None;
                At::Header
            }
            At::Header if line.is_empty() => match self.framing {
                Framing::None | Framing::Length(0) => At::RequestLine,
                Framing::Length(bytes) => At::Body(bytes),
                Framing::Chunked => At::ChunkSize,
                Framing::Unclear => At::Anywhere,
            },
            At::Header | At::Anywhere => {
                self.header(line);
                self.at
            }
            At::ChunkSize => match chunk_size(line) {
                Some(0) => At::Trailer,
                // with the end of the line behind it
                Some(bytes) => At::Chunk(bytes.saturating_add(2)),
                None => At::Anywhere,
            },
            At::Trailer if line.is_empty() => At::RequestLine,
            at @ (At::Trailer | At::Body(_) | At::Chunk(_)) => at,
        }
    }

    fn header(&mut self, line: &[u8]) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return };
        let is = |wanted: &str| name.trim_ascii_end().eq_ignore_ascii_case(wanted.as_bytes());
        let (is_length, is_coding) = (is("content-length"), is("transfer-encoding"));
        if !is_length && !is_coding {
            return;
        }
        if self.hidden == 0 && name.last().is_some_and(is_blank) {
            self.hidden = self.begun + u64::from(self.at == At::Anywhere);
        }
        let value = value.trim_ascii();
        let told = if line.len() == KEPT {
            Framing::Unclear
        } else if is_length {
            length(value).map_or(Framing::Unclear, Framing::Length)
        } else if value.to_ascii_lowercase().ends_with(b"chunked") {
            Framing::Chunked
        } else {
            Framing::Unclear
        };
        // as hyper takes it, the coding counts where both are told
        if is_coding || !matches!(self.framing, Framing::Chunked) {
            self.framing = told;
        }
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let digits = std::str::from_utf8(line.get(..end)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head that is found to hide a length, wherever the bytes are cut.
    fn hidden(bytes: &str) -> u64 {
        let find = |parts: &mut dyn Iterator<Item = &[u8]>| {
            let mut heads = Heads::default();
            parts.for_each(|part| heads.look(part));
            heads.hidden()
        };
        let whole = find(&mut [bytes.as_bytes()].into_iter());
        for length in 1..bytes.len() {
            assert_eq!(
                find(&mut bytes.as_bytes().chunks(length)),
                whole,
                "cut every {length} bytes: {bytes:?}"
            );
        }
        whole
    }

    #[test]
    fn a_length_behind_blanks_is_seen_however_it_arrives() {
        for line in ["Content-Length : 7", "content-length\t :7", "Transfer-Encoding          : chunked"] {
            assert_eq!(hidden(&format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")), 1, "{line}");
            assert_eq!(hidden(&format!("GET / HTTP/1.1\nHost: a\n{line}\n\n")), 1, "{line}");
        }
        let long = " ".repeat(500);
        assert_eq!(hidden(&format!("GET / HTTP/1.1\r\nContent-Length{long}: 7\r\n\r\n")), 1);
    }

    #[test]
    fn a_plain_head_hides_nothing() {
        for line in ["Content-Length: 0", "X-Content-Length : 7", "Hostname: \u{1}", "Content-Length", ": x"]
        {
            assert_eq!(hidden(&format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")), 0, "{line}");
        }
        assert_eq!(hidden("Content-Length : 7\r\n\r\n"), 0, "a request line is no header");
    }

    #[test]
    fn in_a_body_everything_is_allowed_and_the_next_head_is_looked_at_again() {
        let fine = "\nContent-Length : 7\n";
        let sized = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{fine}", fine.len());
        let chunked = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n{:x};a=b\r\n{fine}\r\n0\r\nX: 1\r\n\r\n",
            fine.len()
        );
        let bad = "GET / HTTP/1.1\r\nContent-Length : 1\r\n\r\n";
        assert_eq!((hidden(&sized), hidden(&chunked)), (0, 0));
        assert_eq!(hidden(&format!("{sized}{chunked}\r\n{bad}")), 3);
    }

    #[test]
    fn where_the_next_head_begins_is_not_known_every_line_counts_against_the_next() {
        for unclear in ["Content-Length: 7, 7", "Transfer-Encoding: gzip", "Content-Length: x"] {
            let bytes = format!("POST / HTTP/1.1\r\n{unclear}\r\n\r\nx\r\nContent-Length : 1\r\n");
            assert_eq!(hidden(&bytes), 2, "{unclear}");
        }
    }
}

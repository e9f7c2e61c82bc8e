//! HTTP/1 read by its letter: what two readers could take for two things is refused, with the reason.

/// Most bytes of a chunk's size.
const DIGITS: usize = 8;

/// A request or an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    /// The three parts of the first line.
    pub(crate) start: [String; 3],
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Length of it all, in bytes.
    pub(crate) end: usize,
}

impl Message {
    /// Reads a request; `None`: more is needed.
    pub(crate) fn request(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(mut message) = head(bytes)? else { return Ok(None) };
        let [method, target, version] = &message.start;
        if !method.bytes().all(is_token)
            || target.bytes().any(|b| b <= b' ' || b == b'#' || b == 0x7f)
            || version != "HTTP/1.1"
        {
            return Err(format!("no request line: {:?}", message.start));
        }
        if message.all("host").count() != 1 {
            return Err("not one Host".into());
        }
        let rest = bytes.get(message.end..).unwrap_or_default();
        Ok(body(&message, rest)?.map(|(body, length)| {
            message.end += length;
            Self { body, ..message }
        }))
    }

    /// Reads an answer; `None`: more is needed. One without a body, to HEAD, is known by what follows it.
    pub(crate) fn answer(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(mut message) = head(bytes)? else { return Ok(None) };
        let [version, status, _] = &message.start;
        if !["HTTP/1.0", "HTTP/1.1"].contains(&version.as_str()) || message.status().is_none() {
            return Err(format!("no status line: {:?}", message.start));
        }
        if status == "100" {
            return Ok(Some(message));
        }
        let rest = bytes.get(message.end..).unwrap_or_default();
        if !message.is_framed() {
            return Err(format!("an answer without a length: {:?}", message.start));
        }
        if rest.is_empty() || rest.starts_with(b"HTTP/1.") {
            return Ok(Some(message));
        }
        Ok(body(&message, rest)?.map(|(body, length)| {
            message.end += length;
            Self { body, ..message }
        }))
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.start[1].parse().ok().filter(|status| (100..1000).contains(status))
    }

    /// Values of all headers of this name.
    pub(crate) fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn is_framed(&self) -> bool {
        self.header("content-length").is_some() || self.header("transfer-encoding").is_some()
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The first line and the headers.
fn head(bytes: &[u8]) -> Result<Option<Message>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let mut start = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
    let mut part = || start.next().unwrap_or_default();
    let start = [part(), part(), part()];
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("no header: {line:?}"))?;
        let wrong = |c: char| c.is_control() && c != '\t';
        if name.is_empty() || !name.bytes().all(is_token) || value.contains(wrong) {
            return Err(format!("no header: {line:?}"));
        }
        headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Some(Message { start, headers, body: Vec::new(), end: end + 4 }))
}

/// Whether the head that `bytes` begin with tells a length under a name that ends with a blank.
pub(crate) fn hides_length(bytes: &[u8]) -> bool {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let hides = |line: &str| {
        let name = line.split_once(':').map_or("", |(name, _)| name);
        ["content-length", "transfer-encoding"].contains(&name.trim_end_matches([' ', '\t']))
            && name.ends_with([' ', '\t'])
    };
    text.split("\r\n").all(|line| !line.contains('\n')) && text.split("\r\n").skip(1).any(hides)
}

/// The body that belongs to a head, and how long it is on the wire.
fn body(message: &Message, rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (lengths, encodings): (Vec<_>, Vec<_>) =
        (message.all("content-length").collect(), message.all("transfer-encoding").collect());
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Some((Vec::new(), 0))),
        ([length], []) if length.len() <= DIGITS && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| "an empty Content-Length")?;
            Ok(rest.get(..length).map(|body| (body.to_vec(), length)))
        }
        ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") => chunks(rest),
        _ => Err(format!("framing in doubt: {lengths:?} {encodings:?}")),
    }
}

fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let Some(line) = find(rest, b"\r\n") else { return Ok(None) };
        let digits = &rest[..line];
        if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("no chunk: {:?}", String::from_utf8_lossy(digits)));
        }
        let length =
            usize::from_str_radix(&String::from_utf8_lossy(digits), 16).map_err(|e| e.to_string())?;
        at += line + 2;
        if length == 0 {
            let ends = bytes[at..].starts_with(b"\r\n").then_some(at + 2);
            let trailers = || find(&bytes[at..], b"\r\n\r\n").map(|end| at + end + 4);
            return Ok(ends.or_else(trailers).map(|end| (body, end)));
        }
        let Some(chunk) = bytes.get(at..at + length + 2) else { return Ok(None) };
        let (chunk, end) = chunk.split_at(length);
        if end != b"\r\n" {
            return Err("a chunk longer than it says".into());
        }
        body.extend_from_slice(chunk);
        at += length + 2;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

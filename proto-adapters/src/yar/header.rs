//! The 82 bytes of header and the 8 bytes that name the packager.

use crate::Fault;
use crate::codec::Wire;

/// Length of the header, in bytes.
pub const HEADER: usize = 82;
/// Length of everything before the payload: the header and the packager's name, in bytes.
pub const HEAD: usize = 90;
/// Longest provider and token, in bytes.
pub const NAME: usize = 32;

const MAGIC: [u8; 4] = [0x80, 0xdf, 0xec, 0x60];
const MAGIC_AT: usize = 6;
const RESERVED_AT: usize = 10;
const PROVIDER_AT: usize = 14;
const TOKEN_AT: usize = 46;
/// Where `body_len` stands.
pub(super) const BODY_LEN_AT: usize = 78;

/// Whether a message that begins with `prefix` is Yar: its bytes 6 to 9 are the magic.
pub fn is_yar(prefix: &[u8]) -> bool {
    prefix.get(MAGIC_AT..).is_some_and(|rest| rest.starts_with(&MAGIC))
}

/// Whether a message that begins with `prefix` can still turn out to be Yar: nothing of the magic is wrong yet.
pub fn may_become_yar(prefix: &[u8]) -> bool {
    prefix.iter().skip(MAGIC_AT).zip(&MAGIC).all(|(byte, magic)| byte == magic)
}

/// Whether the sender of a message keeps its connection open behind it.
pub fn is_persistent(message: &[u8]) -> bool {
    message.get(RESERVED_AT..RESERVED_AT + 4).is_some_and(|reserved| reserved != [0; 4])
}

/// Marks a message whose sender keeps the connection open, as PHP's persistent client does.
pub fn mark_persistent(message: &mut [u8]) {
    if let Some(reserved) = message.get_mut(RESERVED_AT..RESERVED_AT + 4) {
        reserved.copy_from_slice(&[0, 0, 0, 1]);
    }
}

/// `body_len` of a message that begins with `prefix`, once that is long enough.
pub(super) fn body_len(prefix: &[u8]) -> Option<usize> {
    let field = prefix.get(BODY_LEN_AT..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*field)).ok()
}

/// What is wrong with bytes that are not Yar.
pub(super) fn no_magic(bytes: &[u8]) -> Fault {
    Fault::malformed(bytes.len().min(MAGIC_AT), "no Yar magic 80dfec60")
}

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packager {
    /// msgpack.
    Msgpack,
    /// JSON.
    Json,
    /// PHP's own serialize format.
    Php,
}

impl Packager {
    /// The name as it stands in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Msgpack => "MSGPACK",
            Self::Json => "JSON",
            Self::Php => "PHP",
        }
    }

    /// The codec of its values.
    pub fn wire(self) -> Wire {
        match self {
            Self::Msgpack => Wire::Msgpack,
            Self::Json => Wire::Json,
            Self::Php => Wire::Php,
        }
    }

    /// Reads the field of 8 bytes. Yar 2.3 leaves junk behind the NUL, and nobody reads byte 8.
    fn parse(field: [u8; 8]) -> Result<Self, Fault> {
        let [name @ .., _] = field;
        let name = until_nul(&name);
        [Self::Msgpack, Self::Json, Self::Php]
            .into_iter()
            .find(|packager| name.eq_ignore_ascii_case(packager.name().as_bytes()))
            .ok_or_else(|| Fault::malformed(HEADER, format!("unknown packager '{}'", name.escape_ascii())))
    }
}

/// The head of a message. Only the magic is checked, as PHP does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Transaction id; an answer repeats it.
    pub id: u32,
    /// Version of the protocol; PHP sends 0 and nobody checks.
    pub version: u16,
    /// 1 from a persistent client over TCP or a unix socket, else 0.
    pub reserved: u32,
    /// Who sends, up to the first NUL; at most 32 bytes.
    pub provider: Vec<u8>,
    /// The sender's secret, up to the first NUL; at most 32 bytes.
    pub token: Vec<u8>,
    /// Length of the payload and the packager's 8 bytes. Unreliable over HTTP.
    pub body_len: u32,
    /// How the payload is packed.
    pub packager: Packager,
}

impl Header {
    /// Reads the first 90 bytes of a message.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if `bytes` is shorter, has another magic, or names a packager that
    /// does not exist.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if !is_yar(bytes) {
            return Err(no_magic(bytes));
        }
        Ok(Self {
            id: u32::from_be_bytes(field(bytes, 0)?),
            version: u16::from_be_bytes(field(bytes, 4)?),
            reserved: u32::from_be_bytes(field(bytes, RESERVED_AT)?),
            provider: until_nul(&field::<NAME>(bytes, PROVIDER_AT)?).to_vec(),
            token: until_nul(&field::<NAME>(bytes, TOKEN_AT)?).to_vec(),
            body_len: u32::from_be_bytes(field(bytes, BODY_LEN_AT)?),
            packager: Packager::parse(field(bytes, HEADER)?)?,
        })
    }

    /// The 90 bytes before a payload of `payload_len` bytes; `body_len` is computed from it.
    /// Provider and token are cut at 32 bytes.
    pub fn encode(&self, payload_len: usize) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let body_len = u32::try_from(payload_len.saturating_add(HEAD - HEADER)).unwrap_or(u32::MAX);
        put(&mut head, 0, &self.id.to_be_bytes());
        put(&mut head, 4, &self.version.to_be_bytes());
        put(&mut head, MAGIC_AT, &MAGIC);
        put(&mut head, RESERVED_AT, &self.reserved.to_be_bytes());
        put(&mut head, PROVIDER_AT, self.provider.get(..NAME).unwrap_or(&self.provider));
        put(&mut head, TOKEN_AT, self.token.get(..NAME).unwrap_or(&self.token));
        put(&mut head, BODY_LEN_AT, &body_len.to_be_bytes());
        put(&mut head, HEADER, self.packager.name().as_bytes());
        head
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Fault> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or_else(|| {
        Fault::malformed(bytes.len(), format!("a Yar head of {HEAD} bytes ends after {}", bytes.len()))
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn put(head: &mut [u8; HEAD], at: usize, value: &[u8]) {
    if let Some(place) = head.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

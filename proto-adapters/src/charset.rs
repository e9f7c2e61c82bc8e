//! Strings that are not in UTF-8.
//!
//! What becomes of a string can be undone: bytes that would come back as others are no text here,
//! and a character that would come back as another has no bytes.
//!
//! ```
//! use proto_adapters::Charset;
//!
//! assert_eq!(Charset::Gbk.decode(b"\xc4\xe3").as_deref(), Some("你"));
//! assert_eq!(Charset::Gbk.encode("你").as_deref(), Ok(&b"\xc4\xe3"[..]));
//! assert_eq!(Charset::Gbk.encode("a😀"), Err('😀'));
//! ```

use std::borrow::Cow;

use encoding_rs::{DecoderResult, EncoderResult, GBK};

use crate::event::{Event, Sink};

/// The charset of strings in msgpack and in PHP's own format; JSON is UTF-8 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8.
    #[default]
    Utf8,
    /// GBK with the euro sign at 80, as Windows (code page 936) and PHP's iconv have it.
    Gbk,
}

impl Charset {
    /// The text that these bytes are; `None` if they are none.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Self::Utf8 => str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Gbk if is_reversible(bytes) => {
                GBK.decode_without_bom_handling_and_without_replacement(bytes)
            }
            Self::Gbk => None,
        }
    }

    /// The bytes of a text.
    ///
    /// # Errors
    /// The first character that has none.
    pub fn encode(self, text: &str) -> Result<Cow<'_, [u8]>, char> {
        if self == Self::Utf8 || text.is_ascii() {
            return Ok(Cow::Borrowed(text.as_bytes()));
        }
        let mut bytes = Vec::new();
        self.encode_to(text, &mut bytes).map(|()| Cow::Owned(bytes))
    }

    /// Appends the bytes of a text; fails with the first character that has none.
    pub(crate) fn encode_to(self, text: &str, bytes: &mut Vec<u8>) -> Result<(), char> {
        if self == Self::Utf8 || text.is_ascii() {
            bytes.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        if let Some(shadowed) = text.chars().find(|c| is_shadowed(*c)) {
            return Err(shadowed);
        }
        let mut encoder = GBK.new_encoder();
        let room = encoder.max_buffer_length_from_utf8_without_replacement(text.len());
        bytes.reserve(room.unwrap_or_default());
        let (result, read) = encoder.encode_from_utf8_to_vec_without_replacement(text, bytes, true);
        match (result, text.get(read..).and_then(|rest| rest.chars().next())) {
            (EncoderResult::Unmappable(c), _) => Err(c),
            (EncoderResult::InputEmpty | EncoderResult::OutputFull, Some(c)) => Err(c),
            (EncoderResult::InputEmpty | EncoderResult::OutputFull, None) => Ok(()),
        }
    }

    /// These bytes as text for people, with `U+FFFD` for what is none.
    pub fn show(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes),
            Self::Gbk => GBK.decode_without_bom_handling(bytes).0,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Gbk => "GBK",
        }
    }

    /// Hands a string to `sink`; text that is not there as it stands is put together in `spare`.
    #[inline(always)]
    pub(crate) fn give<'a, S: Sink<'a>>(
        self,
        bytes: &'a [u8],
        spare: &mut String,
        sink: &mut S,
    ) -> Result<(), S::Refusal> {
        match self {
            Self::Gbk if !bytes.is_ascii() => gbk(bytes, spare, sink),
            Self::Utf8 | Self::Gbk => match str::from_utf8(bytes) {
                Ok(text) => sink.take(Event::Str(Cow::Borrowed(text))),
                Err(_) => sink.take(Event::Bytes(bytes)),
            },
        }
    }
}

#[inline(never)]
fn gbk<'a, S: Sink<'a>>(bytes: &'a [u8], spare: &mut String, sink: &mut S) -> Result<(), S::Refusal> {
    if !is_reversible(bytes) {
        return sink.take(Event::Bytes(bytes));
    }
    let mut decoder = GBK.new_decoder_without_bom_handling();
    let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len());
    spare.clear();
    spare.reserve(room.unwrap_or_default());
    match decoder.decode_to_string_without_replacement(bytes, spare, true) {
        (DecoderResult::InputEmpty, _) => sink.take_text(spare),
        (DecoderResult::Malformed(..) | DecoderResult::OutputFull, _) => sink.take(Event::Bytes(bytes)),
    }
}

/// Whether there is nothing in GBK's place that would be written otherwise: characters of four
/// bytes, which only GB 18030 has, and second places of the euro sign and the wide blank.
fn is_reversible(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((lead, behind)) = rest.split_first() {
        rest = match (lead, behind) {
            (0x81.., [b'0'..=b'9', ..]) | (0xa2, [0xe3, ..]) | (0xa3, [0xa0, ..]) => return false,
            (0x81.., [_, behind @ ..]) => behind,
            _ => behind,
        };
    }
    true
}

/// Private code points that share their bytes with a later one, which is read from them.
fn is_shadowed(c: char) -> bool {
    const SINGLE: [char; 8] =
        ['\u{e81e}', '\u{e826}', '\u{e82b}', '\u{e82c}', '\u{e832}', '\u{e843}', '\u{e854}', '\u{e864}'];
    ('\u{e78d}'..='\u{e796}').contains(&c) || SINGLE.contains(&c)
}

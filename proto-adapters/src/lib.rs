//! Codecs without I/O for the wires PHP services speak: Yar, msgpack, JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Empty {
    #[default]
    List,
    Map,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BytesAs {
    #[default]
    Fail,
    Base64,
}

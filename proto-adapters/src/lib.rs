//! Codecs without I/O for the wires PHP services speak: Yar, msgpack, JSON.

//! Bytes that are written piece by piece.

/// Least room that is made behind a piece, in bytes.
const LEAST: usize = 64;

/// What was written so far, and behind it room for more, whose bytes count for nothing yet: a short piece is stored into
/// it in place, where `Vec` has a call for each.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// Makes room for so many bytes more, so that what is written does not move until they are used up.
    pub(crate) fn reserve(&mut self, more: usize) {
        let least = self.len.saturating_add(more);
        if self.bytes.is_empty() {
            self.bytes = vec![0; least];
        } else if self.bytes.len() < least {
            self.bytes.resize(least, 0);
        }
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    /// The byte at `at`, if it was written.
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut u8> {
        self.bytes.get_mut(..self.len)?.get_mut(at)
    }

    /// Leaves out what is behind the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, byte: u8) {
        self.put([byte]);
    }

    /// Appends a piece whose length is known where it is written.
    #[inline(always)]
    pub(crate) fn put<const N: usize>(&mut self, piece: [u8; N]) {
        self.put_between(piece, b"", []);
    }

    /// Appends a piece that is mostly short.
    #[inline(always)]
    pub(crate) fn append(&mut self, piece: &[u8]) {
        self.put_between([], piece, []);
    }

    /// Appends a piece that is mostly short with what stands around it.
    #[inline(always)]
    pub(crate) fn put_between<const A: usize, const B: usize>(
        &mut self,
        before: [u8; A],
        piece: &[u8],
        behind: [u8; B],
    ) {
        let end = self.len + A + piece.len() + B;
        let place = self.bytes.get_mut(self.len..end);
        if let Some((first, rest)) = place.and_then(|place| place.split_first_chunk_mut())
            && let Some((middle, last)) = rest.split_last_chunk_mut()
        {
            (*first, *last) = (before, behind);
            copy(middle, piece);
            self.len = end;
        } else {
            self.grow_with([&before, piece, &behind]);
        }
    }

    /// Appends so many zeros.
    pub(crate) fn leave(&mut self, bytes: usize) {
        self.reserve(bytes);
        let end = self.len + bytes;
        self.bytes.get_mut(self.len..end).unwrap_or_default().fill(0);
        self.len = end;
    }

    #[cold]
    #[inline(never)]
    fn grow_with(&mut self, pieces: [&[u8]; 3]) {
        self.bytes.truncate(self.len);
        self.bytes.reserve(LEAST + pieces.iter().map(|piece| piece.len()).sum::<usize>());
        pieces.into_iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.len = self.bytes.len();
        self.bytes.resize(self.bytes.capacity(), 0);
    }
}

/// Copies all of `piece`; what is short by its first and its last bytes, which may be the same in part.
#[inline(always)]
fn copy(place: &mut [u8], piece: &[u8]) {
    if piece.len() >= 8 {
        if piece.len() < 16 {
            copy_ends::<8>(place, piece);
        } else if piece.len() <= 32 {
            copy_ends::<16>(place, piece);
        } else {
            place.copy_from_slice(piece);
        }
    } else if piece.len() >= 4 {
        copy_ends::<4>(place, piece);
    } else if piece.len() >= 2 {
        copy_ends::<2>(place, piece);
    } else {
        copy_ends::<1>(place, piece);
    }
}

#[inline(always)]
fn copy_ends<const N: usize>(place: &mut [u8], piece: &[u8]) {
    if let (Some(to), Some(from)) = (place.first_chunk_mut::<N>(), piece.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (place.last_chunk_mut::<N>(), piece.last_chunk::<N>()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_every_length_stand_one_behind_the_other() {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        for room in [0, 5, 100_000] {
            let (mut buffer, mut expected) = (Buffer::default(), Vec::new());
            buffer.reserve(room);
            for len in (0..100).rev().chain(0..100) {
                let piece = bytes.get(len..2 * len).unwrap_or_default();
                buffer.append(piece);
                buffer.put([1, 2, 3]);
                expected.extend([piece, &[1, 2, 3]].concat());
                assert_eq!((buffer.as_slice(), buffer.len()), (&*expected, expected.len()));
            }
            assert_eq!(buffer.into_vec(), expected);
        }
    }

    #[test]
    fn what_is_left_empty_is_zero_though_something_stood_there() {
        let mut buffer = Buffer::default();
        buffer.append(b"abcd");
        buffer.truncate(1);
        assert_eq!(buffer.get_mut(1), None);
        buffer.leave(2);
        buffer.push(b'e');
        assert_eq!(buffer.into_vec(), b"a\0\0e");
    }
}

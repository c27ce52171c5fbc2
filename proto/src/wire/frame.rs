//! Cuts NUL-terminated frames, or lines, from a byte stream. No I/O happens here, so the daemon's readiness
//! loop, the workers and the blocking client share one implementation.
//!
//! ```
//! let mut decoder = pool_proto::wire::frame::Decoder::new(1024);
//! decoder.extend(b"{\"method\":\"a\"}\0{\"met").unwrap();
//! assert_eq!(decoder.next_frame().unwrap(), b"{\"method\":\"a\"}");
//! assert_eq!(decoder.next_frame(), None);
//! decoder.extend(b"hod\":\"b\"}\0").unwrap();
//! assert_eq!(decoder.next_frame().unwrap(), b"{\"method\":\"b\"}");
//! ```

use memchr::arch::all::memchr::One;
use memchr::memchr;
use serde::Serialize;

/// The greatest length of a frame that the daemon accepts, in bytes, without the terminating NUL.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// What is no longer than this is searched in the way that every processor knows. The fastest one begins with
/// asking what this one knows: under a hypervisor that takes longer than a whole message of a short job.
const SHORT: usize = 4096;

/// A buffer that has grown beyond this size gives its memory back when the buffer is empty.
const KEEP_CAPACITY: usize = 64 * 1024;

/// A frame was longer than the limit of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame is longer than {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Cuts frames from the bytes that [`Decoder::extend`] takes in.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How many bytes at the front of the buffer were handed out already.
    consumed: usize,
    /// How many bytes from `consumed` on are known to hold no delimiter. A long frame is so searched once,
    /// not once per read.
    searched: usize,
    limit: usize,
    /// The byte that ends a frame.
    delimiter: u8,
}

impl Decoder {
    /// A decoder that refuses frames longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), consumed: 0, searched: 0, limit, delimiter: 0 }
    }

    /// A decoder of lines of text, which end with a line feed instead of a NUL.
    pub fn of_lines(limit: usize) -> Self {
        Self { delimiter: b'\n', ..Self::new(limit) }
    }

    /// Takes in bytes in the order in which they arrived.
    ///
    /// # Errors
    /// [`TooLarge`] when a frame has passed the limit, whether the frame is whole or not. The stream cannot
    /// be used any further.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        self.discard_consumed();
        self.buffer.extend_from_slice(bytes);

        // The buffer is searched only if it is long enough to hold a frame beyond the limit.
        let too_large = self.buffer.len() > self.limit && self.longest_frame() > self.limit;
        if too_large { Err(TooLarge { limit: self.limit }) } else { Ok(()) }
    }

    /// The next whole frame, without its delimiter.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        let start = self.consumed;
        let length = self.next_length()?;
        self.consumed = start + length + 1;
        self.searched = 0;
        Some(&self.buffer[start..start + length])
    }

    /// The length of the next frame, if it is whole.
    pub fn next_length(&mut self) -> Option<usize> {
        let held = &self.buffer[self.consumed..];
        match find(self.delimiter, &held[self.searched..]) {
            Some(offset) => {
                // The delimiter is found again at once.
                self.searched += offset;
                Some(self.searched)
            }
            None => {
                self.searched = held.len();
                None
            }
        }
    }

    /// Like [`next_frame`](Self::next_frame), but the frame is taken out of the buffer. A frame that the
    /// buffer begins with is not copied: what follows it is.
    pub fn take_frame(&mut self) -> Option<Vec<u8>> {
        let length = self.next_length()?;
        self.discard_consumed();
        let rest = self.buffer.split_off(length + 1);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.truncate(length);
        self.searched = 0;
        Some(frame)
    }

    /// What is held that belongs to no frame handed out yet: the beginning of a frame whose end has not come.
    pub fn unfinished(&self) -> &[u8] {
        &self.buffer[self.consumed..]
    }

    /// How many bytes are held that belong to no frame handed out yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    fn longest_frame(&self) -> usize {
        let mut rest = &self.buffer[self.consumed..];
        let mut longest = 0;
        while let Some(length) = find(self.delimiter, rest) {
            longest = longest.max(length);
            rest = &rest[length + 1..];
        }
        longest.max(rest.len())
    }

    fn discard_consumed(&mut self) {
        if self.consumed == self.buffer.len() {
            self.buffer.clear();
            if self.buffer.capacity() > KEEP_CAPACITY {
                self.buffer = Vec::new();
            }
        } else if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
        }
        self.consumed = 0;
    }
}

/// Where the byte is found first.
fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    if bytes.len() <= SHORT { One::new(byte).find(bytes) } else { memchr(byte, bytes) }
}

/// `message` as one frame, with its NUL.
///
/// JSON cannot hold a raw NUL byte (RFC 8259, section 7), so the NUL always ends the frame.
///
/// # Panics
/// When `message` cannot be written as JSON (a map with keys that are not strings). No message of poold is
/// such a map.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).expect("protocol types have string keys only");
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(decoder: &mut Decoder) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| decoder.next_frame().map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_split() {
        let stream = b"one\0two\0\0three\0";
        for split in 0..=stream.len() {
            let mut decoder = Decoder::new(16);
            let (head, tail) = stream.split_at(split);
            decoder.extend(head).unwrap();
            let mut got = frames(&mut decoder);
            decoder.extend(tail).unwrap();
            got.extend(frames(&mut decoder));
            assert_eq!(
                got,
                [b"one".to_vec(), b"two".to_vec(), b"".to_vec(), b"three".to_vec()],
                "split at {split}"
            );
        }
    }

    #[test]
    fn the_cap_holds_for_a_frame_not_for_the_stream() {
        let mut decoder = Decoder::new(4);
        decoder.extend(b"1234\x001234\x00").unwrap();
        assert_eq!(frames(&mut decoder).len(), 2);
        decoder.extend(b"1234").unwrap();
        assert_eq!(decoder.extend(b"5"), Err(TooLarge { limit: 4 }));
    }

    #[test]
    fn a_too_long_frame_is_refused_even_when_whole() {
        assert_eq!(Decoder::new(4).extend(b"12345\0"), Err(TooLarge { limit: 4 }));
    }

    #[test]
    fn a_frame_is_taken_out_of_the_buffer_and_what_surrounds_it_stays() {
        let mut decoder = Decoder::new(16);
        decoder.extend(b"one\0two\0three\0fo").unwrap();
        assert_eq!(decoder.next_frame().unwrap(), b"one");
        assert_eq!(decoder.next_length(), Some(3));
        assert_eq!(decoder.take_frame().unwrap(), b"two");
        assert_eq!((decoder.pending(), decoder.next_length()), (8, Some(5)));
        assert_eq!(decoder.take_frame().unwrap(), b"three");
        assert_eq!(decoder.take_frame(), None);
        decoder.extend(b"ur\0\0").unwrap();
        assert_eq!(frames(&mut decoder), [b"four".to_vec(), b"".to_vec()]);
    }

    #[test]
    fn a_large_frame_gives_its_memory_back() {
        let mut decoder = Decoder::new(MAX_FRAME);
        decoder.extend(&vec![b'x'; 1 << 20]).unwrap();
        decoder.extend(b"\0").unwrap();
        assert_eq!(frames(&mut decoder).len(), 1);
        decoder.extend(b"y").unwrap();
        assert!(decoder.buffer.capacity() <= KEEP_CAPACITY);
        assert_eq!(decoder.pending(), 1);
    }
}

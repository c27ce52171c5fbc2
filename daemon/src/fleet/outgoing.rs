//! Bytes on their way into a pipe or a socket that takes only so many at a time.

use std::collections::VecDeque;
use std::io::{self, Write};

use pool_proto::Json;

/// Messages up to this length are gathered, so that a burst of small ones goes out in one system call.
const GATHERED: usize = 64 * 1024;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Outgoing {
    pieces: VecDeque<Piece>,
    /// So many bytes of the first piece are gone. They are not cut off, since all the others would have to be
    /// moved each time.
    sent: usize,
}

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    /// A long value, which others have as well.
    Shared(Json),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(json) => json.get().as_bytes(),
        }
    }
}

impl Outgoing {
    /// Appends a message.
    pub fn push(&mut self, message: Vec<u8>) {
        match self.pieces.back_mut() {
            Some(Piece::Own(last)) if last.len() + message.len() <= GATHERED => last.extend(message),
            _ => self.pieces.push_back(Piece::Own(message)),
        }
    }

    /// Appends a value, without copying it.
    pub fn share(&mut self, value: Json) {
        self.pieces.push_back(Piece::Shared(value));
    }

    /// Whether all has been sent.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Drops what has not been sent.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sends what is taken, but no more than `limit` bytes; true when more may be taken.
    ///
    /// # Errors
    /// Those of write(2), that it would block among them.
    pub fn flush(&mut self, into: &mut impl Write, limit: usize) -> io::Result<bool> {
        let mut left = limit;
        while let Some(piece) = self.pieces.front() {
            if left == 0 {
                return Ok(true);
            }
            let bytes = &piece.bytes()[self.sent..];
            match into.write(&bytes[..bytes.len().min(left)]) {
                Ok(count) => {
                    left -= count;
                    self.sent += count;
                    if count == bytes.len() {
                        self.pieces.pop_front();
                        self.sent = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes seven bytes, then none, and so on.
    #[derive(Default)]
    struct Narrow {
        taken: Vec<u8>,
        is_full: bool,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_full = !self.is_full;
            if !self.is_full {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(7);
            self.taken.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_of_it_goes_out_in_order_whatever_comes_in_between() {
        let (mut outgoing, mut narrow) = (Outgoing::default(), Narrow::default());
        let mut wanted: Vec<u8> = Vec::new();
        for length in 0..40 {
            let message = vec![length; usize::from(length)];
            wanted.extend(&message);
            outgoing.push(message);
            let _ = outgoing.flush(&mut narrow, usize::MAX);
        }
        while outgoing.flush(&mut narrow, usize::MAX).is_err() {}
        assert!(narrow.taken == wanted && outgoing.is_empty());
    }

    #[test]
    fn what_is_no_longer_to_be_sent_is_not() {
        let (mut outgoing, mut narrow) = (Outgoing::default(), Narrow::default());
        outgoing.push(vec![1; 10]);
        assert_eq!(outgoing.flush(&mut narrow, usize::MAX).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        outgoing.clear();
        outgoing.push(vec![2; 3]);
        assert!(!outgoing.flush(&mut narrow, usize::MAX).unwrap());
        assert_eq!(narrow.taken, [1, 1, 1, 1, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn a_receiver_gets_no_more_at_once_than_its_turn() {
        let (mut outgoing, mut taken) = (Outgoing::default(), Vec::new());
        outgoing.push(b"[".to_vec());
        outgoing.share(Json::parse(r#""a long value""#).unwrap());
        outgoing.push(b"]".to_vec());
        assert!(outgoing.flush(&mut taken, 5).unwrap(), "there is more to send");
        assert_eq!(taken, b"[\"a l");
        assert!(!outgoing.flush(&mut taken, 100).unwrap());
        assert_eq!(taken, b"[\"a long value\"]");
        assert!(outgoing.is_empty());
    }
}

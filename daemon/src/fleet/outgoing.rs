//! Bytes on their way into a pipe or a socket that takes only so many at a time.

use std::io::{self, Write};

/// See the module's description.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// So many of them are gone. They are not cut off piece by piece, since all the others would have to be
    /// moved each time.
    sent: usize,
}

impl Outgoing {
    /// Appends a message.
    pub fn push(&mut self, message: Vec<u8>) {
        self.bytes.drain(..std::mem::take(&mut self.sent));
        if self.bytes.is_empty() {
            self.bytes = message;
        } else {
            self.bytes.extend(message);
        }
    }

    /// Whether all has been sent.
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Drops what has not been sent.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sends what is taken.
    ///
    /// # Errors
    /// Those of write(2), that it would block among them.
    pub fn flush(&mut self, into: &mut impl Write) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match into.write(&self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
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
            let _ = outgoing.flush(&mut narrow);
        }
        while outgoing.flush(&mut narrow).is_err() {}
        assert!(narrow.taken == wanted && outgoing.bytes.is_empty());
    }

    #[test]
    fn what_is_no_longer_to_be_sent_is_not() {
        let (mut outgoing, mut narrow) = (Outgoing::default(), Narrow::default());
        outgoing.push(vec![1; 10]);
        assert_eq!(outgoing.flush(&mut narrow).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        outgoing.clear();
        outgoing.push(vec![2; 3]);
        outgoing.flush(&mut narrow).unwrap();
        assert_eq!(narrow.taken, [1, 1, 1, 1, 1, 1, 1, 2, 2, 2]);
    }
}

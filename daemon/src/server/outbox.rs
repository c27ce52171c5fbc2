//! Bytes on their way to one client, with the descriptors that travel beside them. Nothing here ever blocks.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Frames are gathered into chunks of about this size, so that a burst of small ones goes out in one system
/// call.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    sent: usize,
    /// Go out with the chunk's first byte.
    descriptors: Vec<OwnedFd>,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    size: usize,
    descriptors: usize,
}

impl Outbox {
    /// Appends a frame.
    pub fn push(&mut self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) {
        self.size += frame.len();
        self.descriptors += descriptors.len();
        match self.chunks.back_mut() {
            Some(last) if descriptors.is_empty() && last.bytes.len() + frame.len() <= CHUNK => {
                last.bytes.extend_from_slice(&frame)
            }
            _ => self.chunks.push_back(Chunk { bytes: frame, sent: 0, descriptors }),
        }
    }

    /// Bytes not sent yet.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Descriptors not sent yet.
    pub fn descriptors(&self) -> usize {
        self.descriptors
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Sends what the socket takes, but no more than about `limit` bytes; true when it may take more.
    ///
    /// # Errors
    /// Those of sendmsg(2), but for a full socket, which is none.
    pub fn flush(&mut self, socket: RawFd, limit: usize) -> io::Result<bool> {
        let mut left = limit;
        while let Some(chunk) = self.chunks.front_mut() {
            if left == 0 {
                return Ok(true);
            }
            match send(socket, chunk, left) {
                Ok(count) => {
                    // With the first byte the descriptors are on their way; ours can be closed.
                    self.descriptors -= chunk.descriptors.len();
                    chunk.descriptors.clear();
                    chunk.sent += count;
                    self.size -= count;
                    left = left.saturating_sub(count);
                    if chunk.sent == chunk.bytes.len() {
                        self.chunks.pop_front();
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// Sends so many bytes at most.
fn send(socket: RawFd, chunk: &Chunk, limit: usize) -> nix::Result<usize> {
    let end = chunk.bytes.len().min(chunk.sent + limit);
    let slices = [IoSlice::new(&chunk.bytes[chunk.sent..end])];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let descriptors: Vec<RawFd> = chunk.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control: &[ControlMessage] = if descriptors.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket, &slices, control, flags, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_gets_no_more_at_once_than_its_turn() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        outbox.push(vec![b'x'; 2 * CHUNK], Vec::new());
        outbox.push(vec![b'y'; 10], Vec::new());

        assert!(outbox.flush(ours.as_raw_fd(), CHUNK).unwrap(), "there is more to send");
        assert_eq!(outbox.len(), CHUNK + 10);
        assert!(outbox.flush(ours.as_raw_fd(), CHUNK + 9).unwrap());
        assert_eq!(outbox.len(), 1);
        assert!(!outbox.flush(ours.as_raw_fd(), CHUNK).unwrap());
        assert!(outbox.is_empty());
    }
}

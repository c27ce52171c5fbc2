//! Work that would hold up the loop is done aside: by a thread, one piece after another.
//!
//! Reading or writing a message of 15 MiB takes longer than a short job. The loop hands such a piece over and
//! goes on with its other clients; what comes of the piece is taken in a later turn. The thread begins with
//! the first piece, so a daemon that has only small messages has no such thread. What the pieces are, and
//! what waits for them, is the business of whoever hands them over.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A message of more bytes is read and written aside.
pub const LARGE: usize = 256 * 1024;

/// Bytes that are read from one sender, or written to one receiver, before the others get their turn.
pub const TURN: usize = 256 * 1024;

/// What the thread calls when a result can be taken.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

type Piece<T> = Box<dyn FnOnce() -> T + Send>;

/// See the module's description. Its thread ends by itself when this is dropped.
pub struct Aside<T> {
    name: &'static str,
    notify: Notify,
    /// None before the first piece.
    pieces: Option<Sender<Piece<T>>>,
    results: Receiver<T>,
    /// The thread's end, of which it has a clone.
    told: Sender<T>,
}

impl<T: Send + 'static> Aside<T> {
    /// `name`: of the thread. `notify` is called after each result.
    pub fn new(name: &'static str, notify: Notify) -> Self {
        let (told, results) = channel();
        Self { name, notify, pieces: None, results, told }
    }

    /// Has a piece done after all that were handed over before. Where no thread can be had, it is done here.
    pub fn hand(&mut self, piece: impl FnOnce() -> T + Send + 'static) {
        let piece: Piece<T> = Box::new(piece);
        let rejected = match self.thread() {
            Ok(pieces) => pieces.send(piece).err().map(|unsent| unsent.0),
            Err(error) => {
                tracing::warn!(%error, "no thread for a large message: others wait for it");
                Some(piece)
            }
        };
        if let Some(piece) = rejected {
            carry_out(piece, &self.told, &self.notify);
        }
    }

    /// What has come of a piece, in their order. Never blocks.
    pub fn take(&mut self) -> Option<T> {
        self.results.try_recv().ok()
    }

    fn thread(&mut self) -> io::Result<&Sender<Piece<T>>> {
        if self.pieces.is_none() {
            let (pieces, handed) = channel::<Piece<T>>();
            let (told, notify) = (self.told.clone(), self.notify.clone());
            let work = move || handed.into_iter().for_each(|piece| carry_out(piece, &told, &notify));
            thread::Builder::new().name(self.name.to_owned()).spawn(work)?;
            self.pieces = Some(pieces);
        }
        Ok(self.pieces.as_ref().expect("it has just been started"))
    }
}

fn carry_out<T>(piece: Piece<T>, told: &Sender<T>, notify: &Notify) {
    // Nobody waits for it any more when the receiver is gone.
    if told.send(piece()).is_ok() {
        notify();
    }
}

impl<T> fmt::Debug for Aside<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Aside").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn pieces_are_done_in_their_order_and_the_loop_is_told_of_each() {
        let (told, hears) = mpsc::channel();
        let mut aside = Aside::new("aside", Arc::new(move || _ = told.send(())));
        let (open, gate) = mpsc::channel::<()>();
        aside.hand(move || {
            gate.recv().unwrap();
            1
        });
        aside.hand(|| 2);
        assert_eq!(aside.take(), None, "the first piece is under way, and nobody waits for it");

        open.send(()).unwrap();
        for wanted in [1, 2] {
            hears.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(aside.take(), Some(wanted));
        }
        assert_eq!(aside.take(), None);
    }
}

//! poold's protocol, shared by the daemon and its clients: what travels over the socket and where that socket
//! is.
//!
//! * [`wire`]: NUL-terminated frames, Varlink's envelopes, JSON that is passed on as it came;
//! * [`nouns`]: the types that the methods share: a job, its record, a pool, what happens;
//! * [`methods`]: the table of the methods of `io.poold`, and what each takes and replies;
//! * [`refusal`]: the named errors;
//! * [`client`]: a blocking client, the only way in (`poolctl` has no privileged path);
//! * [`location`]: where the socket, the state and the configuration live;
//! * [`place`]: what a state directory tells of its poold;
//! * [`own_file`]: files that poold keeps for itself, opened without following links;
//! * [`own_limits`]: what a process hands on to those that it starts;
//! * [`os_text`]: text that need not be UTF-8;
//! * [`terminal`]: foreign text on its way to a terminal;
//! * [`output_times`]: when an attempt wrote its output;
//! * [`text`]: durations and times as people and JSON write them.
//!
//! The format is Varlink's, see <https://varlink.org>: JSON objects, each ended by a NUL byte, over a Unix
//! stream socket.

#![warn(missing_docs)]

pub mod wire;

pub mod nouns;

pub mod methods;
pub mod refusal;

pub mod client;

pub mod account;
pub mod location;
pub mod os_text;
pub mod output_times;
pub mod own_file;
pub mod own_limits;
pub mod place;
pub mod terminal;
pub mod text;

pub use client::{Client, ClientError, Vigil};
pub use methods::{INTERFACE, Method, Reply, Request};
pub use nouns::{Record, ResultKind, State};
pub use os_text::OsText;
pub use refusal::Refusal;
pub use wire::json::{Json, WeakJson};

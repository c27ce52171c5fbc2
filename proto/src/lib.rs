//! poold's protocol, shared by the daemon and its clients: what travels over the socket and where that socket is.
//!
//! * [`frame`]: NUL-terminated frames, cut from a byte stream without doing any I/O;
//! * [`message`]: Varlink's envelope, a call and a reply;
//! * [`interface`]: `io.poold`: its methods, types and description;
//! * [`condition`]: more of them, about how the daemon is;
//! * [`pools`]: more of them, about pools;
//! * [`json`]: values that are passed on as they came;
//! * [`events`]: and about what happens in it;
//! * [`refusal`]: its named errors;
//! * [`client`]: a blocking client, the only way in (`poolctl` has no privileged path);
//! * [`location`]: where the socket, the state and the configuration live;
//! * [`text`]: durations and times as people and JSON write them.
//!
//! The format is Varlink's, see <https://varlink.org>: JSON objects, each ended by a NUL byte, over a Unix stream socket.

#![warn(missing_docs)]

pub mod frame;
pub mod message;

pub mod condition;
pub mod events;
pub mod interface;
pub mod json;
pub mod pools;
pub mod refusal;

pub mod client;

pub mod location;
pub mod text;

pub use client::{Client, ClientError};
pub use interface::{INTERFACE, Record, ResultKind, State};
pub use json::Json;
pub use refusal::Refusal;

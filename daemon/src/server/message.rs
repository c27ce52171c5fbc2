//! A client's message, read: the slow part of taking it in, which needs nothing of the connection.

use pool_proto::Refusal;
use pool_proto::methods::{Parsed, parse};
use pool_proto::wire::message::RequestEnvelope;
use serde_json::value::RawValue;

/// What a client asks for.
#[derive(Debug)]
pub struct Message {
    pub more: bool,
    pub oneway: bool,
    /// The request, or the refusal to reply with.
    pub asked: Result<Parsed, Refusal>,
}

impl Message {
    /// Reads a frame.
    ///
    /// # Errors
    /// The refusal with which the connection ends, since what the frame holds is no message.
    pub fn read(frame: &[u8]) -> Result<Self, Refusal> {
        let envelope = serde_json::from_slice::<RequestEnvelope<&RawValue>>(frame)
            .map_err(|error| Refusal::InvalidMessage { reason: error.to_string() })?;
        Ok(Self { more: envelope.more, oneway: envelope.oneway, asked: parse(&envelope) })
    }
}

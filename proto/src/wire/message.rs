//! Varlink's envelopes: what surrounds the parameters of a request and of a reply.
//!
//! The shape is that of <https://varlink.org/Method-Call>; unknown members are ignored, as that page asks.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A request as a client sends it; Varlink names it a method call.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestEnvelope<P = Box<RawValue>> {
    /// Interface and method, as in `io.poold.Submit`.
    pub method: String,
    /// The method's parameters, an object.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub parameters: Option<P>,
    /// The client wants no reply.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oneway: bool,
    /// The client takes any number of replies.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    /// The client wants to leave Varlink on this connection; poold refuses that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub upgrade: bool,
}

/// A reply as the daemon sends it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplyEnvelope<P = Box<RawValue>> {
    /// The reply's parameters, or the error's.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub parameters: Option<P>,
    /// More replies to the same request follow.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continues: bool,
    /// The error's full name; a reply with an error is the last one to its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

//! Varlink's envelope: what surrounds the parameters of a call and of a reply.
//!
//! The shape is that of <https://varlink.org/Method-Call>; unknown members are ignored, as it asks.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A call as a client sends it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call<P = Box<RawValue>> {
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
    /// The client wants to leave Varlink on this connection; refused by poold.
    #[serde(default, skip_serializing_if = "is_false")]
    pub upgrade: bool,
}

/// A reply as the daemon sends it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply<P = Box<RawValue>> {
    /// The reply's parameters, or the error's.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub parameters: Option<P>,
    /// More replies to the same call follow.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continues: bool,
    /// The error's full name; a reply with one is the call's last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

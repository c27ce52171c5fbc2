//! Bytes and envelopes, for any Varlink interface; no I/O happens here.

pub mod frame;
pub mod json;
pub mod message;

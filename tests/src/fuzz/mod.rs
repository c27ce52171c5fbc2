//! What must hold for any bytes at all, for each reader of input that we have not written ourselves. Plain
//! functions: the fuzzers in `tests/fuzz` call them with what they invent, the test `fuzz` with the corpus
//! that they have left, so that both check the same.
//!
//! A function panics where something does not hold. Nothing here does I/O, starts a daemon or depends on the
//! machine.

mod config;
mod frame;
mod request;
mod rpc;

pub use config::config;
pub use frame::frame;
pub use request::request;
pub use rpc::rpc;

use std::path::PathBuf;

use pool_proto::Refusal;

/// Where the inputs of a target are kept.
pub fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target].iter().collect()
}

/// A refusal says something to a user, and comes out of the wire as it went in.
fn check_refusal(refusal: &Refusal) {
    assert_sentence(&refusal.to_string());
    let text = serde_json::to_string(refusal).expect("a refusal can be written");
    assert_eq!(serde_json::from_str::<Refusal>(&text).ok().as_ref(), Some(refusal), "{text}");
}

fn assert_sentence(text: &str) {
    assert!(text.split_whitespace().count() > 1, "{text:?} explains nothing");
}

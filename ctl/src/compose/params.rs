//! The parameters of calls: what is no JSON, and what is too large for a message.

use pool_proto::Json;
use pool_proto::nouns::Job;
use pool_proto::wire::frame::MAX_FRAME;

/// Whatever is shorter fits into a message with all else that a job has, so nobody counts.
const SMALL: usize = 1 << 20;

/// What a message has besides the job.
const ENVELOPE: usize = 4096;

/// Reads a JSON value.
///
/// # Errors
/// Why it is none, as the end of a sentence.
pub fn parse_value(text: &str) -> Result<Json, String> {
    Json::parse(text).map_err(|error| {
        let names_no_number = ["NaN", "Infinity"].iter().any(|name| text.contains(name));
        let hint =
            if names_no_number { " (JSON has neither NaN nor Infinity: write null, or text)" } else { "" };
        format!("{error}{hint}")
    })
}

/// Why no message has room for the job, as the end of a sentence. `bytes`: what of the job may be large.
pub fn too_large(bytes: usize, job: impl FnOnce() -> Job) -> Option<String> {
    if bytes < SMALL {
        return None;
    }
    let size = serde_json::to_vec(&job()).map_or(usize::MAX, |message| message.len());
    let room = MAX_FRAME - ENVELOPE;
    (size > room).then(|| {
        format!("is too large: its job takes {size} bytes, and a message {room} at most; pass it in a file")
    })
}

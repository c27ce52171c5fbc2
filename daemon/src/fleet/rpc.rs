//! What is said between poold and a resident program: JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>),
//! one message a line. Calls go out with the job's id as theirs; a line that comes back is an answer or a
//! notification, and anything else is a breach of the protocol, told with the line itself. No I/O happens
//! here.

use std::borrow::Cow;

use pool_proto::Json;
use pool_proto::nouns::CallProgress;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::outgoing::Outgoing;
use crate::job::{Call, JobId};

/// A line from a program is no longer than this, in bytes.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// Longer parameters are not copied, in bytes.
const SHARED: usize = 16 * 1024;

/// So much of an offending line is shown, in characters.
const SHOWN: usize = 200;

/// What a program says.
#[derive(Debug, PartialEq)]
pub enum ProgramMessage {
    /// Its notification `ready`.
    Ready,
    /// Its notification `progress`.
    Progress(CallProgress),
    /// A notification that means nothing here; JSON-RPC has it ignored.
    Other,
    /// The answer to a call: its value, or the error.
    Answer { id: JobId, result: Result<Json, Json> },
}

/// Appends a call as a line, its line feed included. Long parameters are not copied.
pub fn encode(id: JobId, call: &Call, out: &mut Outgoing) {
    let method = serde_json::to_string(&call.method).expect("text can be written as JSON");
    let mut line = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method}");
    if let Some(params) = &call.params {
        line += r#","params":"#;
        if params.get().len() > SHARED {
            out.push(std::mem::take(&mut line).into_bytes());
            out.share(params.clone());
        } else {
            line += params.get();
        }
    }
    line += "}\n";
    out.push(line.into_bytes());
}

#[derive(Deserialize)]
struct RpcLine<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// A result of null is a result.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a line, without its line feed.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the program, the line included.
pub fn decode(line: &[u8]) -> Result<ProgramMessage, String> {
    let breach = |what: &str| Err(format!("{what}: {}", shown(line)));
    // Serde would take an array for an object's members in order.
    let is_object = line.trim_ascii_start().starts_with(b"{");
    let Some(said) = serde_json::from_slice::<RpcLine<'_>>(line).ok().filter(|_| is_object) else {
        return breach(if is_object && has_numbers_that_json_lacks(line) {
            "wrote NaN or Infinity, which JSON does not have (null would do, or text), to its standard output"
        } else {
            "wrote a line that is no JSON-RPC message to its standard output"
        });
    };
    match (said.id, said.method, said.result, said.error) {
        (None, Some(method), None, None) => Ok(notification(&method, said.params)),
        (Some(_), Some(_), _, _) => breach("called a method of poold's, which has none"),
        (Some(id), None, result, error) => {
            let id = id.get();
            let Ok(id) = id.parse() else {
                let is_text = id.starts_with('"');
                return breach(if is_text {
                    "answered with text for an id, which is a number"
                } else {
                    "answered a call that it does not have"
                });
            };
            let result = match (result, error) {
                (Some(value), None) => Ok(value),
                (None, Some(error)) => Err(error),
                (Some(_), Some(_)) => return breach("answered with both a result and an error"),
                (None, None) => return breach("answered with neither a result nor an error"),
            };
            Ok(ProgramMessage::Answer { id: JobId(id), result: result.map(Json::of).map_err(Json::of) })
        }
        (None, _, _, _) => breach("answered without the id of the call"),
    }
}

/// Whether the line would be a message if NaN and Infinity were numbers, as Python's json.dumps writes them.
fn has_numbers_that_json_lacks(line: &[u8]) -> bool {
    let mut mended = Vec::with_capacity(line.len());
    let mut rest = line;
    let mut is_in_text = false;
    while let Some(&byte) = rest.first() {
        let lacking: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
        if let Some(after) = lacking.iter().find_map(|name| rest.strip_prefix(*name)).filter(|_| !is_in_text)
        {
            mended.extend(b"null");
            rest = after;
            continue;
        }
        let length = if is_in_text && byte == b'\\' { rest.len().min(2) } else { 1 };
        is_in_text ^= byte == b'"';
        mended.extend(&rest[..length]);
        rest = &rest[length..];
    }
    mended != line && serde_json::from_slice::<RpcLine<'_>>(&mended).is_ok()
}

fn notification(method: &str, params: Option<&RawValue>) -> ProgramMessage {
    match method {
        "ready" => ProgramMessage::Ready,
        "progress" => params
            .and_then(|params| progress(params.get()))
            .map_or(ProgramMessage::Other, ProgramMessage::Progress),
        _ => ProgramMessage::Other,
    }
}

/// By name, or by position: fraction, text.
fn progress(params: &str) -> Option<CallProgress> {
    let progress: CallProgress = serde_json::from_str(params)
        .or_else(|_| {
            serde_json::from_str::<(Option<f64>, Option<String>)>(params)
                .map(|(fraction, text)| CallProgress { fraction, text })
        })
        .or_else(|_| {
            serde_json::from_str::<(f64,)>(params)
                .map(|(fraction,)| CallProgress { fraction: Some(fraction), text: None })
        })
        .ok()?;
    let fraction = progress.fraction.map(|fraction| fraction.clamp(0.0, 1.0));
    let text = progress.text.map(|text| text.chars().take(SHOWN).collect());
    Some(CallProgress { fraction, text })
}

/// What may be shown of a line to people.
pub fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN * 4)]);
    let cut: String = text.chars().take(SHOWN).collect();
    let dots = if cut.len() < line.len() { "..." } else { "" };
    format!("{cut:?}{dots}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u64, result: Result<&str, &str>) -> ProgramMessage {
        let json = |text| Json::parse(text).unwrap();
        ProgramMessage::Answer { id: JobId(id), result: result.map(json).map_err(json) }
    }

    fn line(id: u64, method: &str, params: Option<&str>) -> String {
        let params = params.map(|params| Json::parse(params).unwrap());
        let (mut out, mut line) = (Outgoing::default(), Vec::new());
        encode(JobId(id), &Call { method: method.to_owned(), params, lost: None }, &mut out);
        out.flush(&mut line, usize::MAX).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_call_is_one_line() {
        assert_eq!(
            line(7, "sq\"uare", Some("[3]")),
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"sq\\\"uare\",\"params\":[3]}\n"
        );
        assert_eq!(line(8, "now", None), "{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"now\"}\n");
        let long = format!("[\"{}\"]", "x".repeat(SHARED));
        assert_eq!(
            line(9, "echo", Some(&long)),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"echo\",\"params\":{long}}}\n")
        );
    }

    #[test]
    fn answers_and_notifications() {
        let cases = [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"n":9}}"#, answer(7, Ok(r#"{"n":9}"#))),
            (r#"{"id":7,"result":null}"#, answer(7, Ok("null"))),
            (r#"{"id":7,"result":1,"error":null}"#, answer(7, Ok("1"))),
            (r#"{"id":7,"error":{"code":1,"message":"no"}}"#, answer(7, Err(r#"{"code":1,"message":"no"}"#))),
            (r#"{"method":"ready"}"#, ProgramMessage::Ready),
            (r#"{"method":"log","params":["x"]}"#, ProgramMessage::Other),
        ];
        for (line, wanted) in cases {
            assert_eq!(decode(line.as_bytes()), Ok(wanted), "{line}");
        }
        let progress = |fraction, text: Option<&str>| {
            ProgramMessage::Progress(CallProgress { fraction, text: text.map(str::to_owned) })
        };
        let cases = [
            (r#"{"fraction":0.5,"text":"half"}"#, progress(Some(0.5), Some("half"))),
            (r#"[0.5,"half"]"#, progress(Some(0.5), Some("half"))),
            ("[7]", progress(Some(1.0), None)),
            (r#"{"text":"on it"}"#, progress(None, Some("on it"))),
        ];
        for (params, wanted) in cases {
            let line = format!(r#"{{"method":"progress","params":{params}}}"#);
            assert_eq!(decode(line.as_bytes()), Ok(wanted), "{line}");
        }
    }

    #[test]
    fn a_breach_is_named_with_its_line() {
        let cases = [
            ("hello", "no JSON-RPC message"),
            (" ", "no JSON-RPC message"),
            ("[1]", "no JSON-RPC message"),
            (r#"{"id":7}"#, "neither a result nor an error"),
            (r#"{"id":7,"result":1,"error":{}}"#, "both"),
            (r#"{"result":1}"#, "without the id"),
            (r#"{"id":"7","result":1}"#, "text for an id"),
            (r#"{"id":7.5,"result":1}"#, "does not have"),
            (r#"{"id":7,"result":[1,NaN]}"#, "wrote NaN or Infinity"),
            (r#"{"id":7,"result":{"a\"NaN":-Infinity}}"#, "wrote NaN or Infinity"),
            (r#"{"id":7,"result":"NaN}"#, "no JSON-RPC message"),
            (r#"{"id":7,"result":NaNs}"#, "no JSON-RPC message"),
            (r#"{"id":7,"method":"m"}"#, "called a method"),
        ];
        for (line, wanted) in cases {
            let breach = decode(line.as_bytes()).unwrap_err();
            assert!(breach.contains(wanted), "{line}: {breach}");
            assert!(breach.ends_with(&format!("{line:?}")), "{breach}");
        }
        let long = decode(&vec![b'x'; 100_000]).unwrap_err();
        assert!(long.len() < 400 && long.ends_with("..."), "{long}");
    }
}

//! What a resident program writes to its standard output: understood, or refused with the line itself; and a
//! value that it returns is passed on as it came.

use pool_proto::Json;
use pool_proto::wire::frame::Decoder;
use poold::fleet::outgoing::Outgoing;
use poold::fleet::rpc::{ProgramMessage, decode, encode};
use poold::job::{Call, JobId};

const LIMIT: usize = 4096;

/// The bytes are what the program writes.
pub fn rpc(bytes: &[u8]) {
    let mut lines = Decoder::of_lines(LIMIT);
    let is_too_long = lines.extend(bytes).is_err();
    let longest = bytes.split(|&byte| byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
    assert_eq!(is_too_long, longest > LIMIT);
    let whole = bytes.iter().filter(|&&byte| byte == b'\n').count();
    for _ in 0..whole {
        line(lines.next_frame().expect("each line feed ends a line"));
    }
    assert!(lines.next_frame().is_none(), "an unfinished line is no line");
}

fn line(line: &[u8]) {
    match decode(line) {
        Ok(ProgramMessage::Ready | ProgramMessage::Other) => {}
        Ok(ProgramMessage::Progress(progress)) => {
            assert!(progress.fraction.is_none_or(|fraction| (0.0..=1.0).contains(&fraction)), "{progress:?}");
            assert!(progress.text.is_none_or(|text| text.chars().count() <= 200));
        }
        Ok(ProgramMessage::Answer { id, result }) => {
            let json = result.unwrap_or_else(|error| error);
            assert_eq!(Json::parse(json.get()).expect("it is JSON").get(), json.get());
            let text = String::from_utf8_lossy(line).replace('\r', " ");
            assert!(text.contains(json.get()), "it is passed on as it came, but for line breaks");
            call_back(id, &json);
        }
        Err(breach) => {
            super::assert_sentence(&breach);
            assert!(breach.len() < 3000 && !breach.contains('\n'), "{breach:?}");
        }
    }
}

/// A value can be handed on as a parameter: one line, with the id in it.
fn call_back(id: JobId, json: &Json) {
    let params = Json::parse(&format!("[{}]", json.get())).expect("a value in brackets is an array");
    let call = Call { method: "m\n\"".to_owned(), params: Some(params), lost: None };
    let (mut out, mut line) = (Outgoing::default(), Vec::new());
    encode(id, &call, &mut out);
    out.flush(&mut line, usize::MAX).expect("memory takes everything");
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert!(line.ends_with(b"}\n") && line.starts_with(b"{\"jsonrpc\":\"2.0\",\"id\":"));
}

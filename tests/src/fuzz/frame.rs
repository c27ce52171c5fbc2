//! The frame decoder beside the simplest one that there could be: the whole stream, split at its NULs.

use pool_proto::wire::frame::{Decoder, encode};

/// The first byte is the cap, the second says how the rest, the stream, is cut into pieces.
pub fn frame(bytes: &[u8]) {
    let &[limit, cut, ref stream @ ..] = bytes else { return };
    let limit = usize::from(limit);
    let wanted = reference(stream, limit);
    for sizes in [whole(stream), single(stream), pieces(stream, cut)] {
        assert_eq!(decode(stream, limit, sizes), wanted, "cap {limit}, cut {cut}");
    }
    round_trip(stream);
}

/// What came out of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Those before the first that is too long.
    frames: Vec<Vec<u8>>,
    /// Bytes of the frame that is not complete; none where one was too long, which is the end of the stream.
    rest: Option<usize>,
}

fn reference(stream: &[u8], limit: usize) -> Outcome {
    let mut frames: Vec<Vec<u8>> = stream.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    match frames.iter().position(|frame| frame.len() > limit) {
        Some(too_long) => {
            frames.truncate(too_long);
            Outcome { frames, rest: None }
        }
        None => {
            let rest = frames.pop().map(|rest| rest.len());
            Outcome { frames, rest }
        }
    }
}

fn decode(stream: &[u8], limit: usize, sizes: Vec<usize>) -> Outcome {
    let mut decoder = Decoder::new(limit);
    let mut frames = Vec::new();
    let mut rest = stream;
    for size in sizes {
        let (piece, others) = rest.split_at(size);
        rest = others;
        let taken = decoder.extend(piece);
        // Those that were whole before the one that is too long can still be had.
        while let Some(frame) = decoder.next_frame().filter(|frame| frame.len() <= limit) {
            frames.push(frame.to_vec());
        }
        if let Err(too_large) = taken {
            assert_eq!(too_large.limit, limit);
            return Outcome { frames, rest: None };
        }
    }
    assert!(rest.is_empty(), "the pieces are the stream");
    assert_eq!(decoder.next_frame(), None);
    Outcome { frames, rest: Some(decoder.pending()) }
}

fn whole(stream: &[u8]) -> Vec<usize> {
    vec![stream.len()]
}

fn single(stream: &[u8]) -> Vec<usize> {
    vec![1; stream.len()]
}

/// Pieces of changing length, empty ones among them.
fn pieces(stream: &[u8], cut: u8) -> Vec<usize> {
    let mut left = stream.len();
    let mut turn = usize::from(cut);
    let mut sizes = Vec::new();
    while left > 0 {
        turn += 7;
        let size = (turn % 24).min(left);
        sizes.push(size);
        left -= size;
    }
    sizes
}

/// Whatever text is sent comes out as one frame, and as the same text.
fn round_trip(stream: &[u8]) {
    let text = String::from_utf8_lossy(stream);
    let bytes = encode(&text);
    let mut decoder = Decoder::new(bytes.len());
    decoder.extend(&bytes).expect("it is not longer than itself");
    let frame = decoder.next_frame().expect("it is whole");
    assert_eq!(serde_json::from_slice::<String>(frame).expect("it is JSON"), text);
    assert_eq!(decoder.next_frame(), None, "a frame holds no NUL");
}

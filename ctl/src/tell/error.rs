//! What poolctl prints about an error that a method has returned.

use pool_proto::Json;

use crate::term::text::printable;

/// A JSON-RPC error as text for people. An error with more members, or of another shape, stays JSON.
pub fn describe_error(error: &Json) -> String {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Plain {
        code: i64,
        message: String,
    }
    match serde_json::from_str(error.get()) {
        Ok(Plain { code, message }) => format!("{} (error {code})", printable(&message, usize::MAX)),
        Err(_) => printable(error.get(), usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_full() {
        let describe = |text: &str| describe_error(&Json::parse(text).unwrap());
        assert_eq!(
            describe(r#"{"code":-32601,"message":"no such method"}"#),
            "no such method (error -32601)"
        );
        assert_eq!(
            describe(r#"{"code":1,"message":"no","data":[1]}"#),
            r#"{"code":1,"message":"no","data":[1]}"#
        );
    }
}

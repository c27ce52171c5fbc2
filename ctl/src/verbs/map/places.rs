//! The places of a command that an item fills. Their notation is that of GNU parallel's replacement strings.
//!
//! | place | what of each value fills it |
//! |---|---|
//! | `{}` | all of it |
//! | `{.}` | all but the extension |
//! | `{/}` | what follows the last slash |
//! | `{//}` | the directory, as dirname(1) has it |
//! | `{/.}` | what follows the last slash, but the extension |
//! | `{1}`, `{2.}`, `{3//}` ... | the same of one value: the item's first, second, third |
//! | `{#}` | the number of the item |

use std::borrow::Cow;

use pool_proto::OsText;

use super::items::Item;

/// An argument of a command, with its places.
#[derive(Debug)]
pub struct Argument {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number,
    /// `which`: one value, counted from 0. Without it all values are meant.
    Value {
        which: Option<usize>,
        form: Form,
    },
}

/// What of a value fills a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    WithoutExtension,
    Base,
    Directory,
    BaseWithoutExtension,
}

impl Argument {
    /// The argument `{}`.
    pub fn item() -> Self {
        Self { pieces: vec![Piece::Value { which: None, form: Form::Whole }] }
    }

    /// Reads an argument. `count`: so many values has each item, if that is known. What would be the place of
    /// a value beyond them is text, as in `grep -E '[0-9]{4}'`.
    pub fn parse(argument: &OsText, count: Option<usize>) -> Self {
        let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), argument.as_escaped());
        while let Some(start) = rest.find('{') {
            text.push_str(&rest[..start]);
            rest = &rest[start..];
            match place(rest, count) {
                Some((piece, length)) => {
                    pieces.extend((!text.is_empty()).then(|| Piece::Text(std::mem::take(&mut text))));
                    pieces.push(piece);
                    rest = &rest[length..];
                }
                None => {
                    text.push('{');
                    rest = &rest[1..];
                }
            }
        }
        text.push_str(rest);
        pieces.extend((!text.is_empty()).then_some(Piece::Text(text)));
        Self { pieces }
    }

    /// Whether the argument has a place.
    pub fn has_place(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// The argument for an item. An argument that is just a place of all values becomes as many arguments as
    /// the item has values; within an argument they are separated by spaces.
    pub fn filled(&self, item: &Item) -> Vec<OsText> {
        if let [Piece::Value { which: None, form }] = self.pieces[..] {
            let formed = |value: &OsText| OsText::from_escaped(form.of(value.as_escaped()).into_owned());
            return item.values.iter().map(formed).collect();
        }

        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Number => filled.push_str(&item.number.to_string()),
                Piece::Value { which: Some(place), form } => {
                    // A line may have fewer columns than others have.
                    let value = item.values.get(*place).map_or("", OsText::as_escaped);
                    filled.push_str(&form.of(value));
                }
                Piece::Value { which: None, form } => {
                    for (place, value) in item.values.iter().enumerate() {
                        filled.push_str(if place > 0 { " " } else { "" });
                        filled.push_str(&form.of(value.as_escaped()));
                    }
                }
            }
        }
        vec![OsText::from_escaped(filled)]
    }
}

/// The place at the beginning of the text, and its length.
fn place(text: &str, count: Option<usize>) -> Option<(Piece, usize)> {
    let inner = &text[1..text.find('}')?];
    let length = inner.len() + 2;
    if inner == "#" {
        return Some((Piece::Number, length));
    }

    let name = inner.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let form = match name {
        "" => Form::Whole,
        "." => Form::WithoutExtension,
        "/" => Form::Base,
        "//" => Form::Directory,
        "/." => Form::BaseWithoutExtension,
        _ => return None,
    };
    let which = match &inner[..inner.len() - name.len()] {
        "" => None,
        number => {
            let number = number.parse::<usize>().ok()?;
            Some(number.checked_sub(1).filter(|&place| count.is_none_or(|count| place < count))?)
        }
    };
    Some((Piece::Value { which, form }, length))
}

impl Form {
    /// This part of a value. Values come in their escaped form, in which no byte that is escaped looks like a
    /// slash or a dot.
    fn of(self, value: &str) -> Cow<'_, str> {
        match self {
            Self::Whole => value.into(),
            Self::WithoutExtension => without_extension(value).into(),
            Self::Base => base(value).into(),
            Self::Directory => directory(value).into(),
            Self::BaseWithoutExtension => without_extension(base(value)).into(),
        }
    }
}

fn base(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

fn without_extension(path: &str) -> &str {
    let dot = path.rfind('.').filter(|&dot| !path[dot..].contains('/'));
    dot.map_or(path, |dot| &path[..dot])
}

fn directory(path: &str) -> &str {
    let named = path.trim_end_matches('/');
    match named.rfind('/') {
        None if named.is_empty() && !path.is_empty() => "/",
        None => ".",
        Some(slash) => match named[..slash].trim_end_matches('/') {
            "" => "/",
            directory => directory,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(argument: &str, values: &[&str]) -> Vec<OsText> {
        let item = Item { number: 7, values: values.iter().map(|&value| value.into()).collect() };
        Argument::parse(&argument.into(), Some(values.len())).filled(&item)
    }

    #[test]
    fn parts_of_a_value() {
        let cases = [
            ("dir/a.tar.gz", ["dir/a.tar", "a.tar.gz", "dir", "a.tar"]),
            ("a", ["a", "a", ".", "a"]),
            ("/a.b", ["/a", "a.b", "/", "a"]),
            ("d.x/a", ["d.x/a", "a", "d.x", "a"]),
            ("d/e//", ["d/e//", "", "d", ""]),
            ("/", ["/", "", "/", ""]),
            ("", ["", "", ".", ""]),
            ("a//b.", ["a//b", "b.", "a", "b"]),
            (".profile", ["", ".profile", ".", ""]),
        ];
        for (value, wanted) in cases {
            let parts = ["{.}", "{/}", "{//}", "{/.}"].map(|place| filled(place, &[value]));
            assert_eq!(parts.concat(), wanted, "{value}");
        }
        let name = OsText::from_bytes(b"d/caf\xe9.\xff");
        let item = Item { number: 1, values: vec![name] };
        let argument = Argument::parse(&"{/.}+{.}".into(), Some(1));
        assert_eq!(argument.filled(&item), [OsText::from_bytes(b"caf\xe9+d/caf\xe9")]);
    }

    #[test]
    fn several_values() {
        let values = ["a/x.c", "b"];
        assert_eq!(filled("{2}-{1}{1/.}", &values), ["b-a/x.cx"]);
        assert_eq!(filled("{}", &values), ["a/x.c", "b"]);
        assert_eq!(filled("{/}", &values), ["x.c", "b"]);
        assert_eq!(filled("<{}|{.}>{#}", &values), ["<a/x.c b|a/x b>7"]);
        // Every number may be a column where nobody knows how many there are.
        let item = Item { number: 1, values: vec!["a".into()] };
        assert_eq!(Argument::parse(&"{1}{2}.".into(), None).filled(&item), ["a."]);
    }

    #[test]
    fn what_is_no_place_is_text() {
        for text in
            ["{", "}", "{x}", "{0}", "{3}", "{1,2}", "{-1}", "{///}", "{1x}", "{99999999999999999999}"]
        {
            assert_eq!(filled(text, &["a", "b"]), [text]);
            assert!(!Argument::parse(&text.into(), Some(2)).has_place(), "{text}");
        }
        assert_eq!(filled("{{}}{", &["a"]), ["{a}{"]);
        // What a value holds is no place either.
        assert_eq!(filled("{} {#}", &["{#}{}"]), ["{#}{} 7"]);
    }
}

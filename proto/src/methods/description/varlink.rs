//! (tests) What the description says: a reader of Varlink's language.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::methods::INTERFACE;

/// The description, read.
pub struct Description {
    pub types: BTreeMap<String, Vec<Member>>,
    /// Parameters and reply of each method.
    pub methods: BTreeMap<String, (Vec<Member>, Vec<Member>)>,
    pub errors: BTreeMap<String, Vec<Member>>,
}

/// A member of an object.
pub struct Member {
    pub name: String,
    pub kind: MemberType,
}

/// The type of a member.
#[derive(Default)]
pub struct MemberType {
    pub optional: bool,
    pub list: bool,
    pub dictionary: bool,
    /// The type's name; empty for one of several words.
    pub name: String,
    pub one_of: BTreeSet<String>,
}

impl Description {
    /// Reads Varlink's language (<https://varlink.org/Interface-Definition>), as far as `io.poold` uses it.
    pub fn parse(text: &str) -> Self {
        let mut words = Words::of(text);
        words.expect("interface");
        assert_eq!(words.next(), INTERFACE);

        let mut read = Self { types: BTreeMap::new(), methods: BTreeMap::new(), errors: BTreeMap::new() };
        while !words.0.is_empty() {
            let (what, name) = (words.next(), words.next());
            let members = words.members();
            let is_new = match what.as_str() {
                "type" => read.types.insert(name.clone(), members).is_none(),
                "error" => read.errors.insert(name.clone(), members).is_none(),
                "method" => {
                    words.expect("->");
                    let reply = words.members();
                    read.methods.insert(name.clone(), (members, reply)).is_none()
                }
                other => panic!("a description has no {other:?}"),
            };
            assert!(is_new, "{name} is described once");
        }
        read
    }
}

/// The words of a description that have not been read yet, the last one first.
struct Words(Vec<String>);

impl Words {
    fn of(text: &str) -> Self {
        let mut words = Vec::new();
        for line in text.lines() {
            let code = line.split('#').next().expect("a split has a first part");
            let spaced = code.replace("->", " \u{2192} ");
            let mut word = String::new();
            for letter in spaced.chars().chain([' ']) {
                if letter.is_alphanumeric() || "_.-".contains(letter) {
                    word.push(letter);
                    continue;
                }
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                match letter {
                    ' ' => {}
                    '\u{2192}' => words.push("->".to_owned()),
                    sign => words.push(sign.to_string()),
                }
            }
        }
        words.reverse();
        Self(words)
    }

    fn next(&mut self) -> String {
        self.0.pop().expect("the description ends after a whole entry")
    }

    fn is_next(&mut self, word: &str) -> bool {
        let is_next = self.0.last().is_some_and(|next| next == word);
        if is_next {
            self.0.pop();
        }
        is_next
    }

    fn expect(&mut self, word: &str) {
        assert_eq!(self.next(), word);
    }

    fn members(&mut self) -> Vec<Member> {
        let mut members = Vec::new();
        self.expect("(");
        while !self.is_next(")") {
            let name = self.next();
            self.expect(":");
            members.push(Member { name, kind: self.kind() });
            self.is_next(",");
        }
        members
    }

    fn kind(&mut self) -> MemberType {
        let mut kind = MemberType { optional: self.is_next("?"), ..MemberType::default() };
        if self.is_next("[") {
            kind.dictionary = self.is_next("string");
            kind.list = !kind.dictionary;
            self.expect("]");
        }
        if self.is_next("(") {
            while !self.is_next(")") {
                kind.one_of.insert(self.next());
                self.is_next(",");
            }
        } else {
            kind.name = self.next();
        }
        kind
    }
}

impl fmt::Display for MemberType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = if self.optional { "?" } else { "" };
        let many = match (self.list, self.dictionary) {
            (true, _) => "[]",
            (_, true) => "[string]",
            _ => "",
        };
        write!(formatter, "{optional}{many}{} {:?}", self.name, self.one_of)
    }
}

//! (tests) What a Rust type expects of JSON: the type is read from a probe, which notes what it is asked for.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

/// What a type expects in one place.
#[derive(Debug, Default)]
pub struct Expected {
    pub optional: bool,
    pub list: bool,
    pub dictionary: bool,
    /// What is in the list or the dictionary, or there is without one.
    pub leaf: Leaf,
}

/// A type that is no list, no dictionary and not optional.
#[derive(Debug, Default, PartialEq)]
pub enum Leaf {
    #[default]
    Nothing,
    Bool,
    Int,
    Float,
    Text,
    OneOf(BTreeSet<String>),
    /// An object with these members.
    Object(BTreeSet<String>),
    /// Anything, passed on as it came.
    Json,
}

/// What `T` expects where `path` leads to; lists and optional members are looked through.
pub fn expected<T: for<'a> Deserialize<'a>>(path: &[&str]) -> Expected {
    let mut expected = Expected::default();
    // The probe notes what is asked of it and then ends the reading with an error.
    let _ = T::deserialize(Probe { path, expected: &mut expected });
    assert_ne!(expected.leaf, Leaf::Nothing, "{path:?} leads somewhere");
    expected
}

/// Notes what it is asked for.
struct Probe<'a> {
    path: &'a [&'a str],
    expected: &'a mut Expected,
}

impl Probe<'_> {
    fn note<T>(self, leaf: Leaf) -> Result<T, Error> {
        assert!(self.path.is_empty(), "{leaf:?} has no member {:?}", self.path);
        self.expected.leaf = leaf;
        Err(de::Error::custom("noted"))
    }
}

/// Methods that note a leaf.
macro_rules! leaves {
    ($($method:ident => $leaf:ident),+ $(,)?) => {
        $(
            fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
                self.note(Leaf::$leaf)
            }
        )+
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    leaves! {
        deserialize_bool => Bool,
        deserialize_i8 => Int, deserialize_i16 => Int, deserialize_i32 => Int, deserialize_i64 => Int,
        deserialize_u8 => Int, deserialize_u16 => Int, deserialize_u32 => Int, deserialize_u64 => Int,
        deserialize_f32 => Float, deserialize_f64 => Float,
        deserialize_str => Text, deserialize_string => Text,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expected.optional = true;
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expected.list = true;
        visitor.visit_seq(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expected.dictionary = true;
        visitor.visit_map(OneMember { key: "any", value: self })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Some((&first, rest)) = self.path.split_first() else {
            return self.note(Leaf::Object(members.iter().map(ToString::to_string).collect()));
        };
        assert!(members.contains(&first), "{members:?} has no member {first}");
        // From here on it is about the member.
        *self.expected = Expected::default();
        visitor.visit_map(OneMember { key: first, value: Probe { path: rest, ..self } })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.note(Leaf::OneOf(variants.iter().map(ToString::to_string).collect()))
    }

    /// The only newtype that is not transparent is serde_json's `RawValue`.
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Error> {
        self.note(Leaf::Json)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("no type of the interface asks for anything at all")
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Probe<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        seed.deserialize(Probe { path: self.path, expected: self.expected }).map(Some)
    }
}

/// An object with the one member.
struct OneMember<'a> {
    key: &'a str,
    value: Probe<'a>,
}

impl<'de> MapAccess<'de> for OneMember<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let key: StrDeserializer<'_, Error> = self.key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Probe { path: self.value.path, expected: self.value.expected })
    }
}

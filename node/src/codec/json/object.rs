//! JSON values that are taken more strictly than serde takes them by itself.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The greatest integer up to which a JSON number is exact everywhere: 2^53 - 1.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// An object and nothing else: a struct alone would be read from an array too.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Object)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// An integer of at most 2^53 - 1, negative or not.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(try_from = "i64")]
pub struct Integer(pub i64);

impl TryFrom<i64> for Integer {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let exact = (-INTEGER_MAX..=INTEGER_MAX).contains(&number);
        exact.then_some(Integer(number)).ok_or("an integer beyond 2^53 - 1")
    }
}

//! A value and where it stands in the file.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

/// A value and its bytes in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands; for lists and mappings only their first byte.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// The same place with another value.
    pub fn with<U>(&self, value: U) -> At<U> {
        At {
            value,
            span: self.span.clone(),
        }
    }
}

impl<T> Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// The bytes of a location, empty at 0 where the parser did not know them.
pub(super) fn bytes(location: Location) -> Range<usize> {
    let number = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let start = number(location.span().byte_offset());
    start..start + number(location.span().byte_len())
}

/// Asks a deserializer for a value with its place.
pub(super) const NAME: &str = "gleaner::At";

struct Placed<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Placed<T> {
    type Value = At<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }
    /// The YAML parser knows `Spanned`.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<At<T>, D::Error> {
        let spanned = Spanned::<T>::deserialize(from)?;
        Ok(At {
            value: spanned.value,
            span: bytes(spanned.referenced),
        })
    }
    /// A tree gives start, end and value.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<At<T>, A::Error> {
        let span = next(&mut seq)?..next(&mut seq)?;
        let value = next(&mut seq)?;
        Ok(At { value, span })
    }
}

/// The next element, which must be there.
pub(super) fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
    seq: &mut A,
) -> Result<T, A::Error> {
    let missing = || A::Error::custom("a place is incomplete");
    seq.next_element()?.ok_or_else(missing)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, Placed(PhantomData))
    }
}

/// A mapping's next key; a plain `null` is no text to YAML, but it may be a name.
pub(super) fn next_key<'de, A: MapAccess<'de>>(
    map: &mut A,
) -> Result<Option<At<String>>, A::Error> {
    let key = map.next_key::<At<Option<String>>>()?;
    Ok(key.map(|key| At {
        value: key.value.unwrap_or_else(|| "null".to_owned()),
        span: key.span,
    }))
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

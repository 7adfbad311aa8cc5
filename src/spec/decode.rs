//! A spanned tree as a serde deserializer: the typed spec keeps places and spellings, and can be
//! read from a tree that lost its wrong parts, so that the rest of a file is judged too.

use std::fmt;
use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::at::{self, At};
use super::tree::{self, Node, Tree};

/// Why a tree does not fit the types.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            span: None,
        }
    }
}

/// Reads a tree of `file` as a `T`.
pub(super) fn decode<T: DeserializeOwned>(tree: &Tree, file: &str) -> Result<T, Misfit> {
    T::deserialize(Value {
        tree,
        file,
        exact: false,
    })
}

/// One value. `exact` tells numbers from text, for those that read a tree.
#[derive(Clone, Copy)]
struct Value<'t> {
    tree: &'t Tree,
    file: &'t str,
    exact: bool,
}

impl<'t> Value<'t> {
    fn of(self, tree: &'t Tree) -> Self {
        Self {
            tree,
            exact: false,
            ..self
        }
    }

    fn misfit(self, wanted: &str) -> Misfit {
        Misfit {
            message: format!("expected {wanted}, found {}", self.tree.kind()),
            span: Some(self.tree.span.clone()),
        }
    }

    fn number<N: std::str::FromStr>(self) -> Result<N, Misfit> {
        let spelled = self.tree.spelled(self.file);
        spelled.parse().map_err(|_| Misfit {
            message: format!("`{spelled}` is not a number that fits here"),
            span: Some(self.tree.span.clone()),
        })
    }

    fn parts(self, is_tree: bool) -> Parts<'t> {
        let Tree { span, defined, .. } = self.tree;
        let mut numbers = vec![span.start, span.end];
        if is_tree {
            numbers.extend([defined.start, defined.end]);
        }
        Parts {
            numbers: numbers.into_iter(),
            last: Some(Last::Value(Value {
                exact: is_tree,
                ..self
            })),
        }
    }
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.tree.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(yes) if self.exact => visitor.visit_bool(*yes),
            Node::Number if self.exact => visitor.visit_i64(0),
            Node::List(items) => visitor.visit_seq(Items {
                rest: items.iter(),
                within: self,
            }),
            Node::Map(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                value: None,
                within: self,
            }),
            _ => visitor.visit_str(&self.tree.spelled(self.file)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.tree.node {
            Node::Bool(yes) => visitor.visit_bool(yes),
            _ => Err(self.misfit("`true` or `false`")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_i64(self.number()?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_u32(self.number()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.tree.node {
            Node::Null | Node::List(_) | Node::Map(_) => Err(self.misfit("text")),
            _ => visitor.visit_str(&self.tree.spelled(self.file)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.tree.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.tree.node {
            Node::Text(word) => visitor.visit_enum(Variant {
                name: word,
                value: None,
                within: self,
            }),
            Node::Map(entries) => match entries.as_slice() {
                [(name, value)] => visitor.visit_enum(Variant {
                    name: &name.value,
                    value: Some(value),
                    within: self,
                }),
                _ => Err(self.misfit("one of its forms")),
            },
            _ => Err(self.misfit("one of its forms")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match name {
            at::NAME => visitor.visit_seq(self.parts(false)),
            tree::NAME => visitor.visit_seq(self.parts(true)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct ignored_any
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }
}

/// A value with its place, as `At` and `Tree` read it: numbers, then the value.
struct Parts<'t> {
    numbers: std::vec::IntoIter<usize>,
    last: Option<Last<'t>>,
}

enum Last<'t> {
    Value(Value<'t>),
    Key(Key<'t>),
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        if let Some(number) = self.numbers.next() {
            return seed.deserialize(number.into_deserializer()).map(Some);
        }
        match self.last.take() {
            None => Ok(None),
            Some(Last::Value(value)) => seed.deserialize(value).map(Some),
            Some(Last::Key(key)) => seed.deserialize(key).map(Some),
        }
    }
}

struct Items<'t> {
    rest: std::slice::Iter<'t, Tree>,
    within: Value<'t>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some(item) = self.rest.next() else {
            return Ok(None);
        };
        seed.deserialize(self.within.of(item)).map(Some)
    }
}

struct Entries<'t> {
    rest: std::slice::Iter<'t, (At<String>, Tree)>,
    value: Option<&'t Tree>,
    within: Value<'t>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        match self.value.take() {
            Some(value) => seed.deserialize(self.within.of(value)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

#[derive(Clone, Copy)]
struct Key<'t>(&'t At<String>);

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(&self.0.value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let span = &self.0.span;
        visitor.visit_seq(Parts {
            numbers: vec![span.start, span.end].into_iter(),
            last: Some(Last::Key(self)),
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Variant<'t> {
    name: &'t str,
    value: Option<&'t Tree>,
    within: Value<'t>,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Misfit> {
        let name: StrDeserializer<'_, Misfit> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.value {
            None => Ok(()),
            Some(value) => Err(self.within.of(value).misfit("a word alone")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Misfit> {
        match self.value {
            Some(value) => seed.deserialize(self.within.of(value)),
            None => Err(self.within.misfit("a value")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Misfit> {
        Err(self.within.misfit("one value"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Misfit> {
        Err(self.within.misfit("one value"))
    }
}

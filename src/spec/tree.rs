//! Any YAML value with the places of all its parts, and scalars as they were spelled.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::at::{self, At};

/// A YAML value.
#[derive(Debug, Clone)]
pub struct Tree {
    /// What it is.
    pub node: Node,
    /// Where it stands; for lists and mappings only their first byte.
    pub span: Range<usize>,
    /// Where it was defined, if an alias stands for it.
    pub defined: Range<usize>,
}

/// What a YAML value is.
#[derive(Debug, Clone)]
pub enum Node {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; [`Tree::spelled`] tells how it was written.
    Number,
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A mapping; a key may come twice here.
    Map(Vec<(At<String>, Tree)>),
}

impl Tree {
    /// A scalar as it was spelled in `file`: `1.10` stays `1.10`; empty for the rest.
    pub fn spelled<'a>(&'a self, file: &'a str) -> Cow<'a, str> {
        match &self.node {
            Node::Text(text) => Cow::Borrowed(text),
            Node::Bool(true) => Cow::Borrowed("true"),
            Node::Bool(false) => Cow::Borrowed("false"),
            Node::Number => Cow::Borrowed(file.get(self.defined.clone()).unwrap_or("").trim()),
            Node::Null | Node::List(_) | Node::Map(_) => Cow::Borrowed(""),
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.node {
            Node::Null => "nothing",
            Node::Bool(_) => "true or false",
            Node::Number => "a number",
            Node::Text(_) => "text",
            Node::List(_) => "a list",
            Node::Map(_) => "a mapping",
        }
    }

    /// Whether it has no parts.
    pub fn is_scalar(&self) -> bool {
        !matches!(self.node, Node::List(_) | Node::Map(_))
    }
}

/// Asks a deserializer for a value with both of its places.
pub(super) const NAME: &str = "gleaner::Tree";

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Tree, D::Error> {
        let spanned = Spanned::<Node>::deserialize(from)?;
        Ok(Tree {
            node: spanned.value,
            span: at::bytes(spanned.referenced),
            defined: at::bytes(spanned.defined),
        })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let span = at::next(&mut seq)?..at::next(&mut seq)?;
        let defined = at::next(&mut seq)?..at::next(&mut seq)?;
        let node = at::next(&mut seq)?;
        Ok(Tree {
            node,
            span,
            defined,
        })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, TreeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_i128<E: Error>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_u128<E: Error>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = at::next_key(&mut map)? {
            entries.push((key, map.next_value()?));
        }
        Ok(Node::Map(entries))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

impl JsonSchema for Tree {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "any".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

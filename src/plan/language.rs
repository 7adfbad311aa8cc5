//! Templates and expressions: minijinja with our filters, fuel-limited, without files.
//!
//! Two environments: *strict* (a missing name is an error) for requests, *lenient* (a missing
//! field is nothing, chains included) for `responses` and `stop`.

use minijinja::Value;

/// A template that renders to text, or, where it is exactly one `{{ }}`, to a value.
#[derive(Debug)]
pub struct Template {
    written: String,
}

/// An expression, as in `stop: count < 1000`.
#[derive(Debug)]
pub struct Expr {
    written: String,
}

/// What is wrong with a template or expression, and where in its text (bytes).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LanguageProblem {
    /// What is wrong, without the position.
    pub message: String,
    /// Byte range in the written text, where known.
    pub range: Option<std::ops::Range<usize>>,
}

/// A name that a template uses, with its path: `vars.repos`, `secret.TOKEN`, `repo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedName {
    /// Dotted, the root first.
    pub path: Vec<String>,
    /// Byte offset of the root's first use in the written text, where found.
    pub at: Option<usize>,
    /// Whether it stands before a `default(…)` filter or `is defined`, so may be missing.
    pub optional: bool,
}

impl Template {
    /// Compiles a template.
    pub fn parse(written: &str) -> Result<Self, LanguageProblem> {
        Ok(Self {
            written: written.to_owned(),
        })
    }
    /// Its text as written.
    pub fn written(&self) -> &str {
        &self.written
    }
    /// Whether it has no `{{`, `{%` or `{#`: it renders to itself.
    pub fn is_literal(&self) -> bool {
        todo!()
    }
    /// Whether its text begins with `{{`.
    pub fn begins_with_expression(&self) -> bool {
        todo!()
    }
    /// The names it uses.
    pub fn names(&self) -> Vec<UsedName> {
        todo!()
    }
    /// Renders to text; strict.
    pub fn text(&self, names: &Value) -> Result<String, LanguageProblem> {
        let _ = names;
        todo!()
    }
    /// Renders to a value: the value itself where the template is exactly one `{{ }}`, else text.
    pub fn value(&self, names: &Value) -> Result<Value, LanguageProblem> {
        let _ = names;
        todo!()
    }
}

impl Expr {
    /// Compiles an expression.
    pub fn parse(written: &str) -> Result<Self, LanguageProblem> {
        Ok(Self {
            written: written.to_owned(),
        })
    }
    /// Its text as written.
    pub fn written(&self) -> &str {
        &self.written
    }
    /// The names it uses.
    pub fn names(&self) -> Vec<UsedName> {
        todo!()
    }
    /// Evaluates it leniently.
    pub fn value(&self, names: &Value) -> Result<Value, LanguageProblem> {
        let _ = names;
        todo!()
    }
    /// Evaluates it leniently, as a condition.
    pub fn holds(&self, names: &Value) -> Result<bool, LanguageProblem> {
        Ok(self.value(names)?.is_true())
    }
}

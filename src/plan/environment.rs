//! The two environments that templates and expressions run in, and what they offer.

use std::ops::Range;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, escape_formatter};

use super::language::LanguageProblem;
use super::names::Scan;
use super::{compare, filters, pattern, reckon};

/// Steps that one rendering may take; a loop that runs away ends here.
const FUEL: u64 = 100_000;
/// Levels that expressions and loops may nest.
const DEPTH: usize = 100;
/// The names under which an environment holds a template's two readings.
pub(super) const AS_TEXT: &str = "text";
pub(super) const AS_TARGET: &str = "target";
pub(super) const AS_FILE: &str = "file";

pub(super) static STRICT: LazyLock<Environment<'static>> =
    LazyLock::new(|| environment(UndefinedBehavior::Strict));
pub(super) static LENIENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut lenient = environment(UndefinedBehavior::Chainable);
    filters::add_lenient_to(&mut lenient);
    lenient
});

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    // Errors carry their place only then; it costs nothing until there is one.
    environment.set_debug(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|name| match name {
        AS_TARGET => filters::IN_URL,
        AS_FILE => filters::IN_FILE,
        _ => AutoEscape::None,
    });
    environment.set_formatter(|out, state, value| {
        // minijinja says `True`; JSON, YAML and what APIs take say `true`.
        if value.kind() == ValueKind::Bool {
            return Ok(out.write_str(if value.is_true() { "true" } else { "false" })?);
        }
        if *state.auto_escape() == filters::IN_URL {
            if !matches!(
                value.kind(),
                ValueKind::String | ValueKind::Number | ValueKind::Plain
            ) {
                let kind = if value.is_none() {
                    "null"
                } else {
                    "not a single value"
                };
                return Err(minijinja::Error::new(
                    ErrorKind::InvalidOperation,
                    format!("a value in a URL is {kind}"),
                ));
            }
            // The sign of an exponent would be read as a space.
            if value.is_safe() {
                out.write_str(&value.to_string())?;
            } else {
                out.write_str(&filters::encode_segment(&value.to_string())?)?;
            }
            return Ok(());
        }
        if *state.auto_escape() == filters::IN_FILE && !value.is_safe() && !value.is_undefined() {
            let text = if value.is_none() {
                String::new()
            } else {
                value.to_string()
            };
            filters::in_file(&text)?;
            return Ok(out.write_str(&text)?);
        }
        // Null is nothing: the word `none` would go out as if it were data.
        let value = if value.is_none() {
            &Value::UNDEFINED
        } else {
            value
        };
        escape_formatter(out, state, value)
    });
    // There is no markup to escape, `safe` would switch the encoding of URLs off, and `debug`
    // prints everything in sight.
    for name in ["safe", "escape", "e"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    filters::add_to(&mut environment);
    reckon::add_to(&mut environment);
    compare::add_to(&mut environment);
    environment
}

/// Finds what minijinja would find only when it runs.
pub(super) fn judge(
    scan: &Scan<'_>,
    environment: &Environment<'static>,
) -> Result<(), LanguageProblem> {
    for (tag, range) in scan.tags() {
        if matches!(tag, "include" | "import" | "from" | "extends" | "block") {
            return Err(LanguageProblem {
                message: format!("`{tag}` is not available: templates read no files"),
                range: Some(range),
                place: None,
            });
        }
    }
    let unknown = |what: &str, name: &str, range: Range<usize>, known: &[&'static str]| {
        let hint = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), known))
            .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
            .min()
            .map(|(_, known)| format!("; did you mean `{known}`?"))
            .unwrap_or_default();
        LanguageProblem {
            message: format!("unknown {what} `{name}`{hint}"),
            range: Some(range),
            place: None,
        }
    };
    for (name, range) in scan.filters() {
        let found = environment.empty_state().apply_filter(name, &[]);
        if found.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
            return Err(unknown("filter", name, range, FILTERS));
        }
    }
    for (text, range) in scan.patterns() {
        if let Err(message) = pattern::compile(text) {
            return Err(LanguageProblem {
                message,
                range: Some(range),
                place: None,
            });
        }
    }
    for (name, range) in scan.tests() {
        let found = environment.empty_state().perform_test(name, &[]);
        if found.is_err_and(|error| error.kind() == ErrorKind::UnknownTest) {
            return Err(unknown("test", name, range, TESTS));
        }
    }
    Ok(())
}

/// Filters that are suggested for a misspelt one.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "batch",
    "bool",
    "capitalize",
    "date",
    "default",
    "epoch",
    "epoch_ms",
    "first",
    "float",
    "format",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "path",
    "regex",
    "reject",
    "replace",
    "reverse",
    "round",
    "select",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
];

/// Tests that are suggested for a misspelt one.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "even",
    "false",
    "float",
    "in",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

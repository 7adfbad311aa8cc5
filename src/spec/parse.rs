//! The one file that calls the YAML parser: text to a spanned tree; then tree to spec.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, MessageFormatter as _};

use super::diagnostic::{Diagnostic, Diagnostics, SourceText};
use super::tree::Tree;
use super::{Written, at, decode, prune, schema, shape};

/// Largest pipeline file in bytes.
pub(super) const MOST_BYTES: u64 = 1024 * 1024;

/// Made once: `check` reads many files.
static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema::annotated);

const MOST_NODES: usize = 20_000;
const MOST_DEPTH: usize = 32;

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: MOST_NODES,
            max_events: 60_000,
            max_depth: MOST_DEPTH,
            max_anchors: 100,
            max_aliases: 1_000,
            max_merge_keys: 100,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MOST_NODES,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Reads a pipeline's text; all shape mistakes at once. They are in [`Written`] where enough of
/// the file could be read to judge the rest.
pub(super) fn parse(source: SourceText) -> Result<Written, Diagnostics> {
    let tree = match tree(&source.text) {
        Ok(tree) => tree,
        Err(one) => {
            let all = vec![one];
            return Err(Diagnostics { source, all });
        }
    };
    let (mut mistakes, wrong) = shape::check(&tree, &SCHEMA, &source.text);
    let mut lost = BTreeSet::new();
    let pruned = prune::prune(&tree, &wrong, &mut lost);
    match decode::decode(&pruned, &source.text) {
        Ok(spec) => Ok(Written {
            source,
            spec,
            mistakes,
            lost,
        }),
        Err(misfit) => {
            if mistakes.is_empty() {
                mistakes.push(Diagnostic {
                    code: "wrong-type",
                    message: misfit.message,
                    span: misfit.span.unwrap_or(0..0),
                    hint: None,
                });
            }
            let all = mistakes;
            Err(Diagnostics { source, all })
        }
    }
}

fn tree(text: &str) -> Result<Tree, Diagnostic> {
    if text.trim().is_empty() {
        return Err(Diagnostic {
            code: "syntax",
            message: "the file is empty".to_owned(),
            span: 0..0,
            hint: Some("`gleaner init` writes a first pipeline".to_owned()),
        });
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| located(&error, text))
}

fn located(error: &serde_saphyr::Error, text: &str) -> Diagnostic {
    let bare = error.without_snippet();
    let mut span = bare.location().map_or(0..0, |place| {
        let bytes = at::bytes(place);
        // Scanner errors know line and column only.
        if bytes.start == 0 && place.line() > 1 || place.column() > 1 {
            let start = byte_of(text, place.line(), place.column());
            start..start.max(bytes.end)
        } else {
            bytes
        }
    });
    span.start = span.start.min(text.len());
    span.end = span.end.clamp(span.start, text.len());
    let mut message = serde_saphyr::UserMessageFormatter
        .format_message(bare)
        .into_owned();
    let line_start = text.get(..span.start).and_then(|before| before.rfind('\n'));
    let line = text.get(line_start.map_or(0, |at| at + 1)..).unwrap_or("");
    let line = line.lines().next().unwrap_or("");
    let indent_has_tab = line
        .chars()
        .take_while(|c| c.is_whitespace())
        .any(|c| c == '\t');
    let hint = if indent_has_tab || message.contains("tab") {
        Some("YAML is indented with spaces, never with tabs".to_owned())
    } else if [": {{", "- {{", "[{{", ", {{"]
        .iter()
        .any(|bare| line.contains(bare))
    {
        "`{{` without quotes begins a mapping of YAML".clone_into(&mut message);
        Some("quote a value that begins with a template: \"{{ … }}\"".to_owned())
    } else {
        None
    };
    let code = match bare {
        Error::Budget { .. } if line.starts_with("---") => {
            "a pipeline file holds one document".clone_into(&mut message);
            "syntax"
        }
        // Inside a value the parser tells it as words only.
        _ if matches!(
            bare,
            Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. }
        ) || message.starts_with("YAML document too large")
            || message.contains("recursion limit") =>
        {
            message = format!(
                "too large or too deep for a pipeline file: at most {MOST_NODES} values, aliases unfolded, and {MOST_DEPTH} levels"
            );
            "too-large"
        }
        _ => "syntax",
    };
    Diagnostic {
        code,
        message,
        span,
        hint,
    }
}

/// The byte at a line and column, both from 1; columns count characters.
fn byte_of(text: &str, line: u64, column: u64) -> usize {
    let nth = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let before: usize = text
        .split_inclusive('\n')
        .take(nth(line))
        .map(str::len)
        .sum();
    let rest = text.get(before..).unwrap_or("");
    let within = rest
        .char_indices()
        .nth(nth(column))
        .map_or(rest.len(), |(at, _)| at);
    before + within
}

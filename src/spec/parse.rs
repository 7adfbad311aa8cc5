//! The one file that calls the YAML parser: text to a spanned tree, and to the typed spec.

use serde::de::DeserializeOwned;
use serde_saphyr::{MessageFormatter as _, options::DuplicateKeyPolicy};

use super::diagnostic::{Diagnostic, Diagnostics, SourceText};
use super::tree::Tree;
use super::{PipelineSpec, Written, at, schema, shape};

/// Largest pipeline file in bytes.
pub(super) const MOST_BYTES: u64 = 1024 * 1024;

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: 20_000,
            max_events: 60_000,
            max_depth: 32,
            max_anchors: 100,
            max_aliases: 1_000,
            max_merge_keys: 100,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Reads a pipeline's text; all shape mistakes at once.
pub(super) fn parse(source: SourceText) -> Result<Written, Diagnostics> {
    match judge(&source.text) {
        Ok(spec) => Ok(Written { source, spec }),
        Err(all) => Err(Diagnostics { source, all }),
    }
}

fn judge(text: &str) -> Result<PipelineSpec, Vec<Diagnostic>> {
    if text.trim().is_empty() {
        return Err(vec![Diagnostic {
            code: "syntax",
            message: "the file is empty".to_owned(),
            span: 0..0,
            hint: Some("`gleaner init` writes a first pipeline".to_owned()),
        }]);
    }
    let tree: Tree = decode(text).map_err(|one| vec![one])?;
    let mistakes = shape::check(&tree, &schema::annotated(), text);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    decode(text).map_err(|one| vec![one])
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Diagnostic> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| located(&error, text))
}

fn located(error: &serde_saphyr::Error, text: &str) -> Diagnostic {
    let bare = error.without_snippet();
    let mut span = bare.location().map_or(0..0, at::bytes);
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
    } else if line.contains("{{") && !line.contains("\"{{") && !line.contains("'{{") {
        Some("quote a value that begins with a template: \"{{ … }}\"".to_owned())
    } else {
        None
    };
    if message.trim().is_empty() {
        "this is not YAML".clone_into(&mut message);
    }
    Diagnostic {
        code: "syntax",
        message,
        span,
        hint,
    }
}

//! What all tables share: templates and expressions, the names they use, and the mistakes found.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::scope::{FUNCTIONS, RESERVED, Scope};
use crate::plan::jq::Jq;
use crate::plan::language::{Expr, LanguageProblem, Template, UsedName};
use crate::plan::path::Path;
use crate::plan::place::Place;
use crate::plan::{Need, duration};
use crate::spec::Written;
use crate::spec::at::At;
use crate::spec::choice::Table;
use crate::spec::diagnostic::{Diagnostic, SourceText};
use crate::spec::near;
use crate::spec::tree::Tree;

/// A mistake was noted, so there is no value.
#[derive(Debug)]
pub(super) struct Noted;

/// Collects mistakes, used variables, and needed secrets.
pub(super) struct Judge<'a> {
    pub(super) file: &'a str,
    path: &'a std::path::Path,
    found: Vec<Diagnostic>,
    vars: Vec<String>,
    used: BTreeSet<String>,
    has_contact: bool,
    secrets: BTreeMap<String, bool>,
    env: BTreeMap<String, bool>,
    /// What templates of the stream being judged see of its cursor.
    pub(super) cursor: CursorSight,
    /// Whether one of them looked at where it begins.
    pub(super) cursor_used: bool,
}

/// What templates see of the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CursorSight {
    /// There is none.
    None,
    /// It has mistakes, so nothing can be said.
    Unclear,
    /// `cursor.from`, and `cursor.to` where its window has an end.
    Seen {
        /// Whether it has.
        has_end: bool,
        /// Whether its values are instants.
        is_time: bool,
    },
}

impl<'a> Judge<'a> {
    pub(super) fn new(source: &'a SourceText, has_contact: bool) -> Self {
        Self {
            file: &source.text,
            path: &source.path,
            found: Vec::new(),
            vars: Vec::new(),
            used: BTreeSet::new(),
            has_contact,
            secrets: BTreeMap::new(),
            env: BTreeMap::new(),
            cursor: CursorSight::None,
            cursor_used: false,
        }
    }

    pub(super) fn know_vars(&mut self, names: impl IntoIterator<Item = String>) {
        self.vars.extend(names);
    }

    /// Notes a mistake.
    pub(super) fn wrong(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: &str,
    ) {
        let one = Diagnostic {
            code,
            message: message.into(),
            span: span.clone(),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        };
        // What `defaults` and `source` say is judged once for every stream.
        if !self.found.contains(&one) {
            self.found.push(one);
        }
    }

    /// Judges what a run does not need: secrets and variables that only stand there may be missing.
    pub(super) fn aside<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (secrets, env) = (self.secrets.clone(), self.env.clone());
        let done = work(self);
        for (all, before) in [(&mut self.secrets, secrets), (&mut self.env, env)] {
            for (name, optional) in all.iter_mut() {
                *optional = before.get(name).copied().unwrap_or(true);
            }
        }
        done
    }

    /// A place of the file, to be kept in the plan.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::new(self.path, self.file, span)
    }

    /// A piece of a scalar: exact where the file holds the value, or that line of it, as it is; else
    /// the scalar.
    fn piece(&self, at: &At<String>, piece: Range<usize>) -> Range<usize> {
        let written = self.file.get(at.span.clone()).unwrap_or("");
        let found = |offset: usize, from: usize| {
            let start = at.span.start + offset + piece.start - from;
            start..start + piece.len()
        };
        if let Some(offset) = written.find(at.value.as_str())
            && !at.value.is_empty()
        {
            return found(offset, 0);
        }
        // Lines of a block are indented, but otherwise as they are.
        let mut begun = 0;
        let mut searched = 0;
        for line in at.value.split_inclusive('\n') {
            let bare = line.trim_end();
            let Some(offset) = written.get(searched..).and_then(|rest| rest.find(bare)) else {
                break;
            };
            if (begun..begun + bare.len().max(1)).contains(&piece.start)
                && piece.end <= begun + bare.len()
            {
                return found(searched + offset, begun);
            }
            searched += offset + bare.len();
            begun += line.len();
        }
        at.span.clone()
    }

    fn language(
        &mut self,
        at: &At<String>,
        code: &'static str,
        problem: &LanguageProblem,
        hint: &str,
    ) {
        let span = match &problem.range {
            Some(range) => self.piece(at, range.clone()),
            None => at.span.clone(),
        };
        self.wrong(code, &span, problem.message.clone(), hint);
    }

    /// A template whose names are all in sight.
    pub(super) fn template(&mut self, at: &At<String>, scope: &Scope) -> Option<Template> {
        self.parsed(at, scope, Template::parse(&at.value))
    }

    /// A template over an answer: a missing field is nothing.
    pub(super) fn answer_template(&mut self, at: &At<String>, scope: &Scope) -> Option<Template> {
        self.parsed(at, scope, Template::lenient(&at.value))
    }

    fn parsed(
        &mut self,
        at: &At<String>,
        scope: &Scope,
        parsed: Result<Template, LanguageProblem>,
    ) -> Option<Template> {
        match parsed {
            Ok(template) => {
                let known = self.names(at, &template.names(), scope);
                known.then(|| template.placed(self.place(&at.span)))
            }
            Err(problem) => {
                self.language(at, "bad-template", &problem, "");
                None
            }
        }
    }

    /// An expression whose names are all in sight.
    pub(super) fn expr(&mut self, at: &At<String>, scope: &Scope) -> Option<Expr> {
        if at.value.contains("{{") {
            let hint = "this is an expression already: write it without `{{ }}`";
            self.wrong(
                "bad-expression",
                &at.span,
                "an expression takes no `{{ }}`",
                hint,
            );
            return None;
        }
        match Expr::parse(&at.value) {
            Ok(expr) => {
                let known = self.names(at, &expr.names(), scope);
                known.then(|| expr.placed(self.place(&at.span)))
            }
            Err(problem) => {
                self.language(at, "bad-expression", &problem, "");
                None
            }
        }
    }

    /// Whether all names are in sight; notes those that are not.
    fn names(&mut self, at: &At<String>, used: &[UsedName], scope: &Scope) -> bool {
        let before = self.found.len();
        for name in used {
            let Some(root) = name.path.first() else {
                continue;
            };
            let length = name.path.join(".").len();
            let span = match name.at {
                Some(start) => {
                    let written = at.value.get(start..).unwrap_or("");
                    let whole = if written.starts_with(&name.path.join(".")) {
                        length
                    } else {
                        root.len()
                    };
                    self.piece(at, start..start + whole)
                }
                None => at.span.clone(),
            };
            self.name(root, name, &span, scope);
        }
        self.found.len() == before
    }

    fn name(&mut self, root: &str, name: &UsedName, span: &Range<usize>, scope: &Scope) {
        if !scope.names.iter().any(|known| known == root) {
            return self.out_of_sight(root, name, span, scope);
        }
        let member = name.path.get(1);
        match (root, member) {
            ("vars", None) => self.used.extend(self.vars.iter().cloned()),
            ("vars", Some(member)) => {
                if self.vars.contains(member) {
                    self.used.insert(member.clone());
                } else if !name.optional {
                    let known: Vec<String> = self.vars.clone();
                    let known = known.iter().map(String::as_str);
                    // A slip is one mistake: what it meant does not count as unused too.
                    self.used
                        .extend(near::near(member, known.clone()).map(str::to_owned));
                    let hint = near::hint(member, known, "vars of this file");
                    self.wrong(
                        "undefined-var",
                        span,
                        format!("`vars` has no `{member}`"),
                        &hint,
                    );
                }
            }
            ("contact", _) if !self.has_contact && !name.optional => {
                let hint = "add `contact:` to `source`: an e-mail address or a URL";
                self.wrong("undefined-name", span, "the source has no `contact`", hint);
            }
            ("cursor", member) => self.cursor(member.map(String::as_str), span),
            ("secret", Some(member)) => need(&mut self.secrets, member, name.optional),
            ("env", Some(member)) => need(&mut self.env, member, name.optional),
            ("secret" | "env", None) => {
                let message = format!("`{root}` needs a name");
                self.wrong(
                    "undefined-name",
                    span,
                    message,
                    &format!("write `{root}.NAME`"),
                );
            }
            _ => {}
        }
    }

    fn cursor(&mut self, member: Option<&str>, span: &Range<usize>) {
        self.cursor_used |= member.is_none_or(|member| member == "from");
        let (message, hint) = match (self.cursor, member) {
            (CursorSight::None, _) => (
                "this stream has no `cursor`".to_owned(),
                "add `cursor: { field: updated_at, start: 2024-01-01 }` to it",
            ),
            (_, None) => (
                "`cursor` needs a name".to_owned(),
                "write `cursor.from` or `cursor.to`",
            ),
            (CursorSight::Unclear, Some("to")) | (_, Some("from")) => return,
            (CursorSight::Seen { has_end, .. }, Some("to")) => {
                if has_end {
                    return;
                }
                (
                    "this cursor has no `to`: only instants end at the start of the run".to_owned(),
                    "add `end:` to the cursor",
                )
            }
            (_, Some(other)) => (
                format!("`cursor` has no `{other}`"),
                "it has `from` and `to`",
            ),
        };
        self.wrong("undefined-name", span, message, hint);
    }

    fn out_of_sight(&mut self, root: &str, name: &UsedName, span: &Range<usize>, scope: &Scope) {
        let known = || scope.names.iter().map(String::as_str);
        if root == "secret" {
            let hint = "a secret can only be rendered into a request or `auth`";
            self.wrong(
                "secret-place",
                span,
                format!("a secret cannot be used in {}", scope.place),
                hint,
            );
        } else if RESERVED.contains(&root) {
            let message = format!("`{root}` is not in sight in {}", scope.place);
            let known: Vec<String> = known().map(|name| format!("`{name}`")).collect();
            self.wrong(
                "undefined-name",
                span,
                message,
                &format!("names in sight: {}", known.join(", ")),
            );
        } else if !name.optional && !FUNCTIONS.contains(&root) {
            let hint = near::hint(root, known().collect::<Vec<_>>(), "names in sight");
            let hint = if self.vars.iter().any(|var| var == root) {
                self.used.insert(root.to_owned());
                format!("did you mean `vars.{root}`?")
            } else {
                hint
            };
            self.wrong(
                "undefined-name",
                span,
                format!("`{root}` is not defined in {}", scope.place),
                &hint,
            );
        }
    }

    /// Notes the variables that `--sink` uses.
    pub(super) fn uses(&mut self, names: &[UsedName]) {
        let of_vars = names
            .iter()
            .filter(|name| name.path.first().is_some_and(|root| root == "vars"));
        self.used
            .extend(of_vars.filter_map(|name| name.path.get(1).cloned()));
    }

    /// A path into a document.
    pub(super) fn path(&mut self, at: &At<String>) -> Option<Path> {
        match Path::parse(&at.value) {
            Ok(path) => Some(path),
            Err(problem) => {
                let end = (problem.at + 1).min(at.value.len()).max(problem.at);
                let span = self.piece(at, problem.at..end);
                let hint = "a path looks like `data.items`, `labels.*.name` or `$`";
                self.wrong("bad-path", &span, problem.message, hint);
                None
            }
        }
    }

    /// A jq filter.
    pub(super) fn jq(&mut self, at: &At<String>) -> Option<Jq> {
        match Jq::parse(&at.value) {
            Ok(jq) => Some(jq),
            Err(problem) => {
                self.language(at, "bad-jq", &problem, "");
                None
            }
        }
    }

    /// A time zone.
    pub(super) fn zone(&mut self, at: &At<String>) -> Option<TimeZone> {
        let zone = TimeZone::get(&at.value);
        if zone.is_err() {
            let message = format!("`{}` is not a time zone", at.value);
            let hint = "write `UTC` or a name such as `America/New_York`";
            self.wrong("bad-zone", &at.span, message, hint);
        }
        zone.ok()
    }

    /// A duration above zero, or the default where none is written.
    pub(super) fn duration(&mut self, at: Option<&At<String>>, default: Duration) -> Duration {
        let Some(at) = at else { return default };
        match duration::parse(&at.value) {
            Ok(duration) if duration.is_zero() => {
                self.wrong(
                    "bad-duration",
                    &at.span,
                    "a duration must be above zero",
                    "",
                );
                default
            }
            Ok(duration) => duration,
            Err(message) => {
                self.wrong("bad-duration", &at.span, message, "");
                default
            }
        }
    }

    /// A header's name.
    pub(super) fn header(&mut self, at: &At<String>) -> Option<http::HeaderName> {
        let name = http::HeaderName::from_bytes(at.value.as_bytes());
        if name.is_err() {
            let message = format!("`{}` is not a header name", at.value);
            self.wrong(
                "bad-header",
                &at.span,
                message,
                "letters, digits and `-`, as in `X-Api-Key`",
            );
        }
        name.ok()
    }

    /// Variables that no template uses.
    pub(super) fn unused_vars(&mut self, written: Option<&Table<Tree>>) {
        for (key, _) in written.iter().flat_map(|table| &table.0) {
            if !self.used.contains(&key.value) {
                let message = format!("no template uses `vars.{}`", key.value);
                self.wrong("unused-var", &key.span, message, "use it or remove it");
            }
        }
    }

    /// Needed secrets, needed environment variables, all mistakes in the order of the file.
    pub(super) fn finish(mut self, written: &Written) -> (Vec<Need>, Vec<Need>, Vec<Diagnostic>) {
        if !written.mistakes.is_empty() {
            self.found.retain(|one| !follows(one, written));
            self.found.extend(written.mistakes.iter().cloned());
        }
        self.found.sort_by_key(|one| (one.span.start, one.span.end));
        (needs(self.secrets), needs(self.env), self.found)
    }
}

/// Whether a mistake may only follow from a part that was left out for its shape.
fn follows(one: &Diagnostic, written: &Written) -> bool {
    const ABSENCE: [&str; 11] = [
        "empty-step",
        "no-key",
        "cursor-with-replace",
        "unused-cursor",
        "no-request",
        "no-sink",
        "no-streams",
        "no-limits",
        "unused-var",
        "bad-slot",
        "sink-shared",
    ];
    // What `for` says stands in one place, so only a shape near it can be to blame.
    const OF_FOR: [&str; 3] = ["bad-for", "empty-for", "bad-range"];
    let section = |at: usize| {
        let begun = written.spec.streams.0.iter();
        begun.filter(|(name, _)| name.span.start <= at).count()
    };
    let is_near = |shape: &Diagnostic| section(shape.span.start) == section(one.span.start);
    // Names of the message are in backticks, so every second piece is one.
    let mut names = one.message.split('`').skip(1).step_by(2);
    // A child stream sees the variables of its parent.
    let has_child = written.lost.contains("stream");
    let streams = written.spec.streams.0.iter();
    let variables = streams.flat_map(|(_, stream)| stream.partitions.iter().flat_map(|all| &all.0));
    let variables: Vec<&str> = variables.map(|(name, _)| name.value.as_str()).collect();
    ABSENCE.contains(&one.code)
        || OF_FOR.contains(&one.code) && written.mistakes.iter().any(is_near)
        || names.any(|name| written.lost.contains(name) || has_child && variables.contains(&name))
}

fn need(all: &mut BTreeMap<String, bool>, name: &str, optional: bool) {
    *all.entry(name.to_owned()).or_insert(true) &= optional;
}

fn needs(all: BTreeMap<String, bool>) -> Vec<Need> {
    let one = |(name, optional)| Need { name, optional };
    all.into_iter().map(one).collect()
}

//! The next page: paging as a pure state machine over what pages say.

use std::collections::HashSet;

use super::decimal;
use super::digest::{Digest, Last};
use crate::plan::json::Json;
use crate::plan::paging::{Paging, TokenFrom};
use crate::plan::path::Path;
use crate::plan::request::{Param, Slot, Turn};

/// What to ask next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::harvest) enum Next {
    /// Nothing: the partition is walked.
    End,
    /// One page.
    One(Turn),
    /// A URL that still has to be resolved and judged.
    Url(String),
    /// Pages whose addresses are all known: `first`, `first + step`, …
    Many {
        /// Where the number goes.
        to: Slot,
        /// The first number.
        first: i64,
        /// From one to the next.
        step: i64,
        /// How many.
        count: u64,
    },
}

/// Why the walk cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::harvest) enum WalkFault {
    /// The same page again.
    #[error("{0}")]
    Loop(String),
    /// The same page again, where the API may have taken a value for an inclusive bound.
    #[error("{0}")]
    Inclusive(String),
    /// `pages` was left out, but there are more.
    #[error("the answer has more pages ({0}), but the stream has no `pages`")]
    Forgotten(String),
    /// There are more, but `pages` leads to none of them.
    #[error("the answer has more pages ({0}), but `pages` finds no next one in it")]
    Unfound(String),
    /// Page after page without a record.
    #[error("{0} pages in a row hold no records, and each leads to another")]
    Empty(u32),
    /// A value that paging needs is not usable.
    #[error("{0}")]
    Unusable(String),
}

impl WalkFault {
    /// The same page again.
    pub(in crate::harvest) fn again(paging: &Paging, what: impl Into<String>) -> Self {
        match paging {
            Paging::Keyset { add: None, .. } => Self::Inclusive(what.into()),
            _ => Self::Loop(what.into()),
        }
    }
}

/// Paths that pages must be searched for, in the order of [`Digest::wanted`].
pub(in crate::harvest) fn wants<'a>(
    paging: &'a Paging,
    expect_total: Option<&'a Path>,
) -> Vec<&'a Path> {
    let mut wants = Vec::new();
    match paging {
        Paging::Next(path)
        | Paging::Merge(path)
        | Paging::Token {
            from: TokenFrom::Body(path),
            ..
        } => wants.push(path),
        Paging::Page { total, last, .. } => {
            wants.extend(total.as_ref());
            wants.extend(last.as_ref());
        }
        Paging::Offset { total, .. } => wants.extend(total.as_ref()),
        Paging::None { .. } | Paging::Link | Paging::Token { .. } | Paging::Keyset { .. } => {}
    }
    wants.extend(expect_total);
    wants
}

/// Whether a page has the member that says where the next one is, if only as null or an empty text: given the
/// values at [`wants`].
pub(in crate::harvest) fn shows_next(paging: &Paging, wanted: &[Option<String>]) -> bool {
    matches!(
        paging,
        Paging::Next(_)
            | Paging::Merge(_)
            | Paging::Token {
                from: TokenFrom::Body(_),
                ..
            }
    ) && wanted.first().is_some_and(Option::is_some)
}

/// How many records there are, as the values at [`wants`] tell a paging that counts.
pub(in crate::harvest) fn total(paging: &Paging, wanted: &[Option<String>]) -> Option<u64> {
    match paging {
        Paging::Page { total: Some(_), .. } | Paging::Offset { total: Some(_), .. } => {
            whole(wanted.first()?.as_deref())
        }
        _ => None,
    }
}

/// The walk over one partition.
#[derive(Debug)]
pub(in crate::harvest) struct Walk<'a> {
    paging: &'a Paging,
    /// The page size that the request asks for.
    size: Option<u64>,
    /// Page number or offset asked last.
    position: i64,
    /// Most records a page held; an API may cap what was asked.
    held: u64,
    contents: HashSet<u64>,
    repeats: u32,
    pages: u64,
    /// Records on them.
    records: u64,
    /// The most records that a page told of.
    told: u64,
    /// How many pages there are by what the first one said.
    end: Option<u64>,
    /// Never hands out several pages at once.
    in_turn: bool,
    /// Several pages were handed out at once.
    spread: bool,
}

impl<'a> Walk<'a> {
    /// A walk that has not begun; `size` is the page size that the rendered request holds.
    pub(in crate::harvest) fn new(paging: &'a Paging, size: Option<u64>, in_turn: bool) -> Self {
        let position = match paging {
            Paging::Page { start, .. } | Paging::Offset { start, .. } => *start,
            _ => 0,
        };
        Self {
            paging,
            size,
            position,
            held: 0,
            contents: HashSet::new(),
            repeats: 0,
            pages: 0,
            records: 0,
            told: 0,
            end: None,
            in_turn,
            spread: false,
        }
    }

    /// The first page; `token` is the rendered `start` of token paging.
    pub(in crate::harvest) fn first(&self, token: Option<String>) -> Turn {
        match (self.paging, token) {
            (Paging::Page { to, start, .. } | Paging::Offset { to, start, .. }, _) => {
                Turn::With(to.clone(), Param::Number(*start))
            }
            (Paging::Token { to, .. }, Some(token)) => Turn::With(to.clone(), Param::Text(token)),
            _ => Turn::First,
        }
    }

    /// What to ask after a page. `size_kept` says whether the API is known to give as many
    /// records as asked: until then a short page is not taken for the last.
    pub(in crate::harvest) fn after(
        &mut self,
        page: &Digest,
        size_kept: bool,
    ) -> Result<Next, WalkFault> {
        self.pages += 1;
        self.records += page.count;
        self.judge_content(page)?;
        let next = self.next(page, size_kept)?;
        // No page of this partition was ever led to: `pages` may look in the wrong place.
        match &page.more {
            Some(sign) if next == Next::End && self.pages == 1 && self.paging.names_next() => {
                Err(WalkFault::Unfound(sign.clone()))
            }
            _ => Ok(next),
        }
    }

    fn next(&mut self, page: &Digest, size_kept: bool) -> Result<Next, WalkFault> {
        // A short page is not the last where it says that there is more.
        let is_short =
            size_kept && page.more.is_none() && self.size.is_some_and(|size| page.count < size);
        let wanted = |at: usize| page.wanted.get(at).and_then(Option::as_deref);
        match self.paging {
            Paging::None { declared: true } => Ok(Next::End),
            Paging::None { declared: false } => match &page.more {
                Some(sign) => Err(WalkFault::Forgotten(sign.clone())),
                None => Ok(Next::End),
            },
            Paging::Link => Ok(match &page.next {
                Some(url) => Next::Url(url.clone()),
                None => Next::End,
            }),
            Paging::Next(path) => match wanted(0) {
                None | Some("null" | "\"\"" | "false") => Ok(Next::End),
                Some(raw) => match serde_json::from_str::<String>(raw) {
                    Ok(url) => Ok(Next::Url(url)),
                    Err(_) => Err(WalkFault::Unusable(format!(
                        "`pages.next: {path}` holds {}, not a URL",
                        shorten(raw)
                    ))),
                },
            },
            Paging::Token { from, to, .. } => Self::after_token(from, to, wanted(0), page),
            Paging::Merge(path) => Self::after_merge(path, wanted(0)),
            Paging::Keyset { field, to, add, .. } => {
                Self::after_keyset(field, to, *add, page, is_short)
            }
            Paging::Page {
                to, total, last, ..
            } => {
                let has_total = usize::from(total.is_some());
                let total = self::total(self.paging, &page.wanted);
                let last = last.as_ref().and_then(|_| whole(wanted(has_total)));
                self.held = self.held.max(page.count);
                let is_beyond = self.is_beyond(total, page.count);
                let more = match (last, total) {
                    (Some(last), _) => {
                        Some(last.saturating_sub(u64::try_from(self.position).unwrap_or(0)))
                    }
                    (None, Some(total)) if self.held > 0 && !is_beyond => {
                        Some(total.div_ceil(self.held).saturating_sub(self.pages))
                    }
                    _ => None,
                };
                Ok(self.after_number(to, 1, more, page.count, is_short))
            }
            Paging::Offset { to, start, .. } => {
                let total = total(self.paging, &page.wanted);
                self.held = self.held.max(page.count);
                // In turn the next page begins where this one ended, however much it held. Pages
                // side by side have to be alike; one that holds less than asked casts doubt on that.
                let step = if self.spread { self.held } else { page.count };
                self.in_turn |= self.size.is_some_and(|size| page.count < size);
                let step = i64::try_from(step).unwrap_or(i64::MAX);
                // Offsets count from 0, or from 1.
                let base = (*start).min(1);
                let passed = self.position.saturating_add(step).saturating_sub(base);
                let is_beyond = self.is_beyond(total, page.count);
                let more = total.filter(|_| !is_beyond).map(|total| {
                    total
                        .saturating_sub(u64::try_from(passed).unwrap_or(0))
                        .div_ceil(self.held.max(1))
                });
                Ok(self.after_number(to, step, more, page.count, is_short))
            }
        }
    }

    /// The walk stands at the last page of what [`Next::Many`] handed out.
    pub(in crate::harvest) fn spread_to(&mut self, position: i64, pages: u64, records: u64) {
        self.spread = true;
        self.position = position;
        self.pages += pages;
        self.records += records;
    }

    /// Whether more records came than any page told of, and no sign of the end: a total that is too
    /// low, or counts something else, is not where the list ends.
    fn is_beyond(&mut self, total: Option<u64>, count: u64) -> bool {
        self.told = self.told.max(total.unwrap_or_default());
        total.is_some() && self.records > self.told && count >= self.held
    }

    /// `more` is how many pages follow, where that is known: their addresses are known then too.
    fn after_number(
        &mut self,
        to: &Slot,
        step: i64,
        more: Option<u64>,
        count: u64,
        is_short: bool,
    ) -> Next {
        if self.pages == 1 {
            self.end = more.map(|more| more.saturating_add(1));
        }
        // An empty page is the last, unless the first page told of more: then those are asked for,
        // as they are side by side.
        if count == 0 && (step == 0 || self.end.is_none_or(|end| self.pages >= end)) {
            return Next::End;
        }
        let Some(following) = self.position.checked_add(step) else {
            return Next::End;
        };
        match more {
            Some(0) => return Next::End,
            // Later pages are asked again because the list may have grown while we read it.
            Some(count) if self.pages == 1 && !self.in_turn => {
                return Next::Many {
                    to: to.clone(),
                    first: following,
                    step,
                    count,
                };
            }
            None if is_short => return Next::End,
            _ => {}
        }
        self.position = following;
        Next::One(Turn::With(to.clone(), Param::Number(following)))
    }

    fn after_token(
        from: &TokenFrom,
        to: &Slot,
        body: Option<&str>,
        page: &Digest,
    ) -> Result<Next, WalkFault> {
        let param = match from {
            TokenFrom::Header(_) => {
                let value = page.next.as_deref().unwrap_or_default();
                if value.is_empty() || value == "null" {
                    return Ok(Next::End);
                }
                Param::Text(value.to_owned())
            }
            TokenFrom::Body(path) => match body {
                None | Some("null" | "\"\"" | "{}" | "[]" | "false") => return Ok(Next::End),
                Some(raw) if raw.starts_with(['{', '[']) => {
                    return Err(WalkFault::Unusable(format!(
                        "`pages.token.from: {path}` holds {}, not a token",
                        shorten(raw)
                    )));
                }
                Some(raw) => Param::Json(raw.to_owned()),
            },
        };
        Ok(Next::One(Turn::With(to.clone(), param)))
    }

    /// Members of the same name give way; what an earlier page said is forgotten, as `MediaWiki`'s
    /// manual wants it (<https://www.mediawiki.org/wiki/API:Continue>).
    fn after_merge(path: &Path, found: Option<&str>) -> Result<Next, WalkFault> {
        let raw = match found {
            None | Some("null" | "\"\"" | "{}" | "[]" | "false") => return Ok(Next::End),
            Some(raw) => raw,
        };
        let unusable = |what: &str| {
            let raw = shorten(raw);
            WalkFault::Unusable(format!("`pages.merge: {path}` holds {raw}, {what}"))
        };
        let Ok(Json::Map(members)) = Json::parse(raw) else {
            return Err(unusable("not an object"));
        };
        let mut pairs = Vec::with_capacity(members.len());
        for (name, member) in members {
            match member {
                Json::Null => {}
                Json::List(_) | Json::Map(_) => {
                    return Err(unusable("and a query holds no objects or lists"));
                }
                scalar => pairs.push((name, scalar.spelled())),
            }
        }
        if pairs.is_empty() {
            return Ok(Next::End);
        }
        Ok(Next::One(Turn::Query(pairs)))
    }

    fn after_keyset(
        field: &Path,
        to: &Slot,
        add: Option<i64>,
        page: &Digest,
        is_short: bool,
    ) -> Result<Next, WalkFault> {
        let Some(last) = &page.last else {
            return Ok(Next::End);
        };
        if is_short {
            return Ok(Next::End);
        }
        let raw = match last {
            Last::Value(raw) => raw,
            Last::Without(record) => {
                return Err(WalkFault::Unusable(format!(
                    "the last record has no `{field}`, which `pages.keyset` needs: {record}"
                )));
            }
        };
        let param = match add {
            None => Param::Json(raw.clone()),
            Some(add) => {
                let sum = decimal::plus(raw.trim_matches('"'), add).ok_or_else(|| {
                    WalkFault::Unusable(format!(
                        "`pages.keyset.add` needs whole numbers, but `{field}` holds {}",
                        shorten(raw)
                    ))
                })?;
                Param::Json(sum)
            }
        };
        Ok(Next::One(Turn::With(to.clone(), param)))
    }

    /// The same records again are a loop at once, save for single records on pages that we count
    /// ourselves: two of those can be alike by chance.
    fn judge_content(&mut self, page: &Digest) -> Result<(), WalkFault> {
        if page.count == 0
            || matches!(self.paging, Paging::None { .. })
            || self.contents.insert(page.content)
        {
            return Ok(());
        }
        self.repeats += 1;
        let counted = matches!(self.paging, Paging::Page { .. } | Paging::Offset { .. });
        if counted && page.count == 1 && self.repeats < 3 {
            return Ok(());
        }
        let what = format!(
            "page {} has the same records as an earlier page",
            self.pages
        );
        Err(WalkFault::again(self.paging, what))
    }
}

/// A non-negative whole number, written as a number or as text; `500.0` is one too.
pub(in crate::harvest) fn whole(raw: Option<&str>) -> Option<u64> {
    let text = raw?.trim_matches('"').trim();
    let text = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    };
    text.parse().ok()
}

/// The beginning of a text from outside, for messages.
pub(in crate::harvest) fn shorten(raw: &str) -> String {
    let cut: String = raw.chars().take(60).collect();
    if cut.len() < raw.len() {
        format!("{cut}…")
    } else {
        cut
    }
}

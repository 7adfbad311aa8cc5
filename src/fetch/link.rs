//! `Link` headers (RFC 8288): where the next page is.

use http::HeaderMap;
use http::header::LINK;

/// The target of the first link with `rel=next`, as written: it may be relative.
pub fn next(headers: &HeaderMap) -> Option<String> {
    target(headers, "next")
}

/// The number of the last page, where a link with `rel=last` has it as its `page` parameter.
pub fn last_page(headers: &HeaderMap) -> Option<u64> {
    let target = target(headers, "last")?;
    let (_, query) = target.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, number) = pairs.into_iter().find(|(name, _)| *name == "page")?;
    number.parse().ok()
}

fn target(headers: &HeaderMap, rel: &str) -> Option<String> {
    headers.get_all(LINK).iter().find_map(|value| {
        let text = match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => text.to_owned(),
            // Dropping a link that cannot be read would silently drop pages; RFC 9110
            // section 5.5 takes such bytes for Latin-1.
            Err(_) => value.as_bytes().iter().map(|&b| char::from(b)).collect(),
        };
        target_in(&text, rel).map(str::to_owned)
    })
}

/// The same for one header value; the algorithm is RFC 8288 appendix B.2.
fn target_in<'a>(value: &'a str, rel: &str) -> Option<&'a str> {
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return None;
        }
        let Some((target, after)) = rest.strip_prefix('<').and_then(|r| r.split_once('>')) else {
            // Not a link: go on behind the next comma, a good one may follow.
            rest = rest.split_once(',')?.1;
            continue;
        };
        let (link, after) = parameters(after, rel);
        rest = after;
        if link.wanted && !link.anchored {
            return Some(target.trim());
        }
    }
}

/// What the parameters of one link say.
#[derive(Default)]
struct Link {
    /// It has the relation that is looked for.
    wanted: bool,
    /// It speaks about another document than the answer; such links are ignored (section 3.2).
    anchored: bool,
}

/// Reads `; name=value` until the link ends; returns what stands behind it.
fn parameters<'a>(mut rest: &'a str, wanted: &str) -> (Link, &'a str) {
    let mut link = Link::default();
    let mut has_rel = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(after) = rest.strip_prefix(';') else {
            // The end, a comma, or rubbish, which ends the link too.
            return (link, rest.split_once(',').map_or("", |(_, r)| r));
        };
        rest = after.trim_start_matches([' ', '\t']);
        let end = rest.find([' ', '\t', '=', ';', ',']).unwrap_or(rest.len());
        let name = &rest[..end];
        rest = rest[end..].trim_start_matches([' ', '\t']);
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = parameter_value(after.trim_start_matches([' ', '\t']));
        }
        if name.eq_ignore_ascii_case("anchor") {
            link.anchored = true;
        } else if name.eq_ignore_ascii_case("rel") && !has_rel {
            // Only the first `rel` counts (section 3.3).
            has_rel = true;
            link.wanted = value
                .split_ascii_whitespace()
                .any(|rel| rel.eq_ignore_ascii_case(wanted));
        }
    }
}

/// A quoted string or a token, and what stands behind it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_next_link() {
        for (value, expected) in [
            (
                r#"<https://a.example/x?page=2>; rel="next""#,
                Some("https://a.example/x?page=2"),
            ),
            (r#"<p1>; rel="prev", <p3>; rel="next""#, Some("p3")),
            ("<p3>;rel=next;title=x", Some("p3")),
            ("<p3>; REL=NEXT", Some("p3")),
            (r#"<p9>; rel="last  next""#, Some("p9")),
            (r#"<x?a=1,2;b>; rel="next""#, Some("x?a=1,2;b")),
            (
                r#"<p1>; title="a, <p2>; rel=next"; rel="prev", <p3>; rel="next""#,
                Some("p3"),
            ),
            (r#"<p1>; title="q\"; rel=next"; rel="prev""#, None),
            (r#"<p1>; rel="prev"; rel="next""#, None),
            (r##"<p1>; rel="next"; anchor="#other""##, None),
            (r#"<p1>; rel="nextish""#, None),
            ("<p1>; rel = next", Some("p1")),
            ("rubbish, <p1>; rel=next", Some("p1")),
            ("<p1>; rel=prev rubbish, <p2>; rel=next", Some("p2")),
            ("<p1", None),
            ("", None),
        ] {
            assert_eq!(target_in(value, "next"), expected, "{value}");
        }
    }

    #[test]
    fn tells_the_last_page() {
        for (value, expected) in [
            (
                r#"<https://a.example/x?per_page=100&page=2>; rel="next", <https://a.example/x?per_page=100&page=34>; rel="last""#,
                Some(34),
            ),
            ("<x?page=2>; rel=next", None),
            ("<x?cursor=abc>; rel=last", None),
            ("<x?page=7#a>; rel=last", Some(7)),
            ("<x>; rel=last", None),
        ] {
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static(value))]);
            assert_eq!(last_page(&headers), expected, "{value}");
        }
    }

    #[test]
    fn reads_several_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(next(&headers), None);
        headers.append(LINK, HeaderValue::from_static("<p1>; rel=first"));
        headers.append(LINK, HeaderValue::from_bytes(b"<p\xe9>; rel=next").unwrap());
        assert_eq!(next(&headers).as_deref(), Some("pé"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn never_panics(value in r#"([<>;,="\\ é]|rel|next|a){0,40}"#) {
            let _ = target_in(&value, "next");
        }

        #[test]
        fn finds_what_was_written(target in "[a-z0-9?&=,;/:]{1,20}", before in "[a-z ,;]{0,10}") {
            let value = format!(r#"<x>; title="{before}"; rel=prev, <{target}>; a="{before}"; rel="up next""#);
            prop_assert_eq!(target_in(&value, "next"), Some(target.as_str()));
        }
    }
}

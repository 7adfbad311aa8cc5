//! Bodies that are files of their own: gzip and zip, known by how they begin and opened with the
//! same cap as content encodings.
//!
//! JSON, CSV and XML never begin so, whatever the content type says.

use std::io::{Cursor, Read, Seek};

use bytes::Bytes;
use zip::ZipArchive;
use zip::result::ZipError;

use super::body::{BodyError, truncated};
use super::encoding::{Encoding, GZIP_MAGIC};
use crate::plan::format::Member;

/// How zip archives begin, empty ones included (PKWARE APPNOTE 4.3.7, 4.3.16).
const ZIP_MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
/// Most files of an archive.
const MOST_FILES: usize = 10_000;

/// What was inside of a body.
#[derive(Debug)]
pub struct Opened {
    /// Names and contents, in the order of the names.
    pub files: Vec<(String, Bytes)>,
    /// Whether it was opened by a pattern that may match several.
    pub is_many: bool,
}

/// Whether a body is packed.
pub fn is_packed(body: &[u8]) -> bool {
    body.starts_with(GZIP_MAGIC) || is_zip(body)
}

pub(super) fn is_zip(body: &[u8]) -> bool {
    ZIP_MAGICS.iter().any(|magic| body.starts_with(magic))
}

/// Opens a body that is packed: gzip, zip, one in the other, and gzip inside of zip. No more than `cap`
/// bytes come out of it. Of a zip archive, the files that match `member`, else all. `Ok(Err(body))` is a
/// gzip file's content.
pub fn open(
    body: &Bytes,
    member: Option<&Member>,
    cap: usize,
) -> Result<Result<Opened, Bytes>, BodyError> {
    let body = gunzip(body, cap)?;
    if !is_zip(&body) {
        return Ok(Err(body));
    }
    few_files(&body)?;
    let mut archive = ZipArchive::new(Cursor::new(&body[..])).map_err(|e| wrong(&e))?;
    let mut left = cap;
    let mut files = Vec::new();
    for (name, index) in chosen(&mut archive, member)? {
        let file = archive.by_index(index).map_err(|e| wrong(&e))?;
        let mut bytes = Vec::new();
        file.take(left as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| {
                BodyError::Decode(format!("{name:?} of the zip archive is damaged: {e}"))
            })?;
        if bytes.len() > left {
            return Err(BodyError::TooLarge { cap });
        }
        let bytes = match gunzip(&Bytes::from(bytes), left) {
            Err(BodyError::TooLarge { .. }) => return Err(BodyError::TooLarge { cap }),
            other => other?,
        };
        left -= bytes.len();
        files.push((name, bytes));
    }
    Ok(Ok(Opened {
        files,
        is_many: member.is_some_and(|member| member.is_many),
    }))
}

/// The files that match `member`, else all, in the order of their names, each with its place.
pub(super) fn chosen(
    archive: &mut ZipArchive<impl Read + Seek>,
    member: Option<&Member>,
) -> Result<Vec<(String, usize)>, BodyError> {
    let mut chosen = Vec::new();
    let mut all = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(|e| wrong(&e))?;
        let name = file.name().map_err(|e| wrong(&e))?.into_owned();
        // What macOS puts beside the files is no data.
        if file.is_dir() || name.starts_with("__MACOSX/") {
            continue;
        }
        if member.is_none_or(|member| member.written == name || member.glob.is_match(&name)) {
            chosen.push((name.clone(), index));
        }
        all.push(name);
    }
    if let (Some(member), true) = (member, chosen.is_empty()) {
        return Err(BodyError::Decode(format!(
            "no file of the zip archive is `{}`; there are {}",
            member.written,
            named(&all)
        )));
    }
    chosen.sort();
    Ok(chosen)
}

/// Refuses an archive of very many files before its table is read, by how it ends.
pub(super) fn few_files(tail: &[u8]) -> Result<(), BodyError> {
    if files_of(tail).is_some_and(|files| files > MOST_FILES) {
        return Err(BodyError::Decode(format!(
            "the zip archive has more than {MOST_FILES} files"
        )));
    }
    Ok(())
}

/// As far as the end of an archive is looked at.
pub(super) const TAIL: usize = 22 + 0xffff;

/// How many files an archive says it has (PKWARE APPNOTE 4.3.16): its table is read whole, and may be
/// large. What is larger than sixteen bits says 65535.
fn files_of(body: &[u8]) -> Option<usize> {
    let tail = body.get(body.len().saturating_sub(TAIL)..)?;
    let at = memchr::memmem::rfind(tail, ZIP_MAGICS[1])?;
    let count = tail.get(at + 10..at + 12)?;
    Some(usize::from(u16::from_le_bytes(count.try_into().ok()?)))
}

/// A gzip file's content; anything else as it is.
fn gunzip(body: &Bytes, cap: usize) -> Result<Bytes, BodyError> {
    if body.starts_with(GZIP_MAGIC) {
        Encoding::Gzip.unpack(body, cap)
    } else {
        Ok(body.clone())
    }
}

pub(super) fn wrong(error: &ZipError) -> BodyError {
    match error {
        // The table of files stands at the end: without it, the end is what is missing.
        ZipError::InvalidArchive(what)
            if what.contains("EOCD") || what.starts_with("Unexpected end") =>
        {
            truncated(format!("the zip archive ended early: {what}"))
        }
        other => BodyError::Decode(format!("the zip archive cannot be read: {other}")),
    }
}

fn named(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("{name:?}"))
        .collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zip(files: &[(&str, &[u8])]) -> Bytes {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let packed = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for (name, bytes) in files {
            if name.ends_with('/') {
                writer.add_directory(*name, packed).unwrap();
            } else {
                writer.start_file(*name, packed).unwrap();
                writer.write_all(bytes).unwrap();
            }
        }
        Bytes::from(writer.finish().unwrap().into_inner())
    }

    fn member(written: &str) -> Member {
        Member {
            written: written.to_owned(),
            glob: globset::Glob::new(written).unwrap().compile_matcher(),
            is_many: written.contains('*'),
        }
    }

    fn files(
        body: &Bytes,
        written: Option<&str>,
        cap: usize,
    ) -> Result<Vec<(String, Bytes)>, BodyError> {
        let member = written.map(member);
        Ok(open(body, member.as_ref(), cap)?.expect("an archive").files)
    }

    #[test]
    fn files_come_in_the_order_of_their_names() {
        let body = zip(&[
            ("d/", b""),
            ("d/b.csv", b"2"),
            ("__MACOSX/d/b.csv", b"x"),
            ("a.csv", b"1"),
            ("c.json.gz", &gzip(b"3")),
        ]);
        let all = files(&body, None, 100).unwrap();
        let shown: Vec<(&str, &[u8])> = all.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
        assert_eq!(
            shown,
            [("a.csv", &b"1"[..]), ("c.json.gz", b"3"), ("d/b.csv", b"2")]
        );
        assert_eq!(files(&body, Some("a.csv"), 100).unwrap().len(), 1);
        assert_eq!(files(&body, Some("*.csv"), 100).unwrap().len(), 2);
        let error = files(&body, Some("x.csv"), 100).unwrap_err().to_string();
        assert!(
            error.contains("no file of the zip archive is `x.csv`; there are \"d/b.csv\""),
            "{error}"
        );
        assert!(files(&zip(&[]), None, 100).unwrap().is_empty());
    }

    #[test]
    fn gzip_is_opened_once_and_may_hold_a_zip() {
        let plain = Bytes::from(gzip(b"{}"));
        assert!(is_packed(&plain) && !is_packed(b"{}"));
        assert_eq!(open(&plain, None, 10).unwrap().unwrap_err(), "{}");
        let wrapped = Bytes::from(gzip(&zip(&[("a", b"1")])));
        assert_eq!(files(&wrapped, None, 1000).unwrap().len(), 1);
        let twice = Bytes::from(gzip(&gzip(b"{}")));
        assert!(is_packed(&open(&twice, None, 100).unwrap().unwrap_err()));
    }

    #[test]
    fn bombs_stop_at_the_cap() {
        let zeros = vec![0; 1 << 20];
        let cap = 64 << 10;
        let one = zip(&[("a", &zeros)]);
        assert!(one.len() < cap);
        assert_eq!(
            files(&one, None, cap).unwrap_err(),
            BodyError::TooLarge { cap }
        );
        let half = vec![0; 40 << 10];
        let two = zip(&[("a", &half), ("b", &half)]);
        assert_eq!(
            files(&two, None, cap).unwrap_err(),
            BodyError::TooLarge { cap }
        );
        assert_eq!(files(&two, Some("b"), cap).unwrap().len(), 1);
        let inside = zip(&[("a", &half), ("b.gz", &gzip(&half))]);
        assert_eq!(
            files(&inside, None, cap).unwrap_err(),
            BodyError::TooLarge { cap }
        );
        let packed = Bytes::from(gzip(&zeros));
        assert!(matches!(
            open(&packed, None, cap),
            Err(BodyError::TooLarge { .. })
        ));
        let names: Vec<String> = (0..=MOST_FILES).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let error = files(&zip(&many), None, cap).unwrap_err().to_string();
        assert!(error.contains("more than 10000 files"), "{error}");
    }

    #[test]
    fn what_is_damaged_is_told_and_what_is_cut_off_tried_again() {
        let text = "some text, ".repeat(100);
        let whole = zip(&[("a", text.as_bytes())]);
        for end in [4, whole.len() / 2, whole.len() - 1] {
            let error = files(&whole.slice(..end), None, 10_000).unwrap_err();
            assert!(matches!(error, BodyError::Send(_)), "{end}: {error}");
        }
        let mut bent = whole.to_vec();
        bent[40] ^= 0x55;
        let error = files(&Bytes::from(bent), None, 10_000).unwrap_err();
        assert!(matches!(error, BodyError::Decode(_)), "{error}");
    }
}

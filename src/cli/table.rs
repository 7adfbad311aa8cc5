//! Tables that fit the terminal: cells are cut, columns that find no room are named below.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

use crate::report::clean;

/// Widest cell.
const CELL: usize = 32;
/// A line below the header, none between rows.
const RULED: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// Width where there is no terminal to ask.
const USUAL: usize = 100;

/// The width of the terminal behind standard output or, failing that, a usual one.
pub(super) fn width() -> usize {
    Table::new().width().map_or(USUAL, usize::from)
}

/// The width of the terminal behind standard error or, failing that, a usual one.
pub(super) fn stderr_width() -> usize {
    Table::new().use_stderr().width().map_or(USUAL, usize::from)
}

/// Rows under headers of one or more lines, cut to `width` columns of text.
pub(super) fn ruled(header: &[Vec<String>], rows: &[Vec<String>], width: usize) -> String {
    let shown = fitting(header, rows, width);
    let pick = |cells: &Vec<String>| -> Vec<String> {
        cells
            .iter()
            .take(shown)
            .map(|cell| cut(cell, CELL))
            .collect()
    };
    let mut table = Table::new();
    table.force_no_tty().load_style(RULED);
    let lines: Vec<Vec<String>> = header.iter().map(pick).collect();
    table.set_header(
        (0..shown)
            .map(|c| {
                lines
                    .iter()
                    .map(|line| line[c].as_str())
                    .collect::<Vec<_>>()
                    .join("\n")
            })
            .collect::<Vec<_>>(),
    );
    table.add_rows(rows.iter().map(pick));
    let mut out = table.trim_fmt();
    out.push('\n');
    let left: Vec<&str> = header
        .first()
        .into_iter()
        .flatten()
        .skip(shown)
        .map(String::as_str)
        .collect();
    if !left.is_empty() {
        let names = cut(&left.join(", "), width.saturating_sub(24).max(20));
        let _ = writeln!(out, "and {} more: {names}", left.len());
    }
    out
}

/// Least room for the last column, whatever the terminal.
const LEAST: usize = 20;

/// Rows without lines; the last column is cut to the terminal, and columns that find no room are
/// named below.
pub(super) fn plain(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let columns = roomy(header, rows, width);
    let (header, left) = header.split_at(columns);
    let mut widest = vec![0; columns.saturating_sub(1)];
    for (c, most) in widest.iter_mut().enumerate() {
        let cells = rows.iter().map(|row| row[c].chars().count());
        *most = cells.chain([header[c].len()]).max().unwrap_or(0).min(CELL);
    }
    let room = width
        .saturating_sub(widest.iter().map(|w| w + 2).sum::<usize>() + 1)
        .max(LEAST);
    let mut table = Table::new();
    table.force_no_tty().load_style(NOTHING);
    table.set_header(header.iter().map(ToString::to_string).collect::<Vec<_>>());
    table.add_rows(rows.iter().map(|row| {
        let cells = row.iter().take(columns).enumerate();
        cells
            .map(|(c, cell)| cut(cell, if c + 1 == columns { room } else { CELL }))
            .collect::<Vec<_>>()
    }));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = table.trim_fmt();
    out.push('\n');
    if !left.is_empty() {
        let _ = writeln!(out, "and {} more: {}", left.len(), left.join(", "));
    }
    out
}

/// How many of the first columns of a plain table fit; at least one.
fn roomy(header: &[&str], rows: &[Vec<String>], width: usize) -> usize {
    let mut used = 0;
    for (column, name) in header.iter().enumerate() {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let cells = cells.map(|cell| clean(cell).chars().count().min(CELL));
        let widest = cells.chain([name.len()]).max().unwrap_or(0);
        // The last is cut where it must be.
        let is_last = column + 1 == header.len();
        let least = if is_last { widest.min(LEAST) } else { widest };
        if used + least > width && column > 0 {
            return column;
        }
        used += widest + 2;
    }
    header.len()
}

/// Rows without lines, of cells with one or more lines; what is too wide goes on below.
pub(super) fn wrapped(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let mut table = Table::new();
    table.force_no_tty().load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(header.iter().map(ToString::to_string).collect::<Vec<_>>());
    let safe = |cell: &String| {
        let lines: Vec<_> = cell.lines().map(clean).collect();
        lines.join("\n")
    };
    table.add_rows(
        rows.iter()
            .map(|row| row.iter().map(safe).collect::<Vec<_>>()),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = table.trim_fmt();
    out.push('\n');
    out
}

/// How many of the first columns fit; at least one.
fn fitting(header: &[Vec<String>], rows: &[Vec<String>], width: usize) -> usize {
    let columns = header.first().map_or(0, Vec::len);
    let mut used = 0;
    for column in 0..columns {
        let cells = header.iter().chain(rows).filter_map(|row| row.get(column));
        let widest = cells
            .map(|cell| clean(cell).chars().count().min(CELL))
            .max()
            .unwrap_or(0);
        // A space on each side and one between two columns.
        used += widest + 3;
        if used > width && column > 0 {
            return column;
        }
    }
    columns
}

/// One line, safe for a terminal, at most `width` characters.
fn cut(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return text.into_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_finds_no_room_is_named() {
        let header = [
            row(&["id", "title", "body", "author"]),
            row(&["integer", "text", "text", "text"]),
        ];
        let rows = [row(&[
            "1",
            "A title that is longer than any cell may be",
            "short\n\u{1b}[31mbody",
            "ann",
        ])];
        insta::assert_snapshot!(ruled(&header, &rows, 60), @r"
         id        title
         integer   text
        ────────────────────────────────────────────
         1         A title that is longer than any…
        and 2 more: body, author
        ");
    }

    #[test]
    fn a_plain_table_cuts_only_its_last_column() {
        let rows = [row(&[
            "demo",
            "2",
            "A sentence about the demo that is rather long.",
        ])];
        insta::assert_snapshot!(plain(&["NAME", "STREAMS", "ABOUT"], &rows, 40), @r"
        NAME  STREAMS  ABOUT
        demo  2        A sentence about the de…
        ");
    }

    #[test]
    fn a_plain_table_leaves_out_what_finds_no_room() {
        let header = ["ID", "PIPELINE", "STATUS", "STARTED", "PAGES"];
        let rows = [row(&[
            "20261122T195448Z-4579",
            "items",
            "complete",
            "2026-11-22 19:54:48",
            "200",
        ])];
        insta::assert_snapshot!(plain(&header, &rows, 44), @r"
        ID                     PIPELINE  STATUS
        20261122T195448Z-4579  items     complete
        and 2 more: STARTED, PAGES
        ");
        assert!(plain(&header, &rows, 80).contains("200"));
    }
}

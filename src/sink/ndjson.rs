//! NDJSON: one JSON object a line.
//!
//! With columns, an object of the columns in order, values as spelled, what is missing as null.
//! Without, lines are the records as the API wrote them.

use std::io::{self, Write};

use super::Sink;
use crate::json;

/// Writes NDJSON.
#[derive(Debug)]
pub struct Ndjson<W> {
    out: W,
    /// For each column what stands before its value: `{"a":`, then `,"b":`.
    before: Vec<String>,
    next: usize,
}

impl<W: Write> Ndjson<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            before: Vec::new(),
            next: 0,
        }
    }

    /// Writes a record as it is.
    pub fn line(&mut self, record: &str) -> io::Result<()> {
        self.out.write_all(record.as_bytes())?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Sink for Ndjson<W> {
    type Out = W;

    fn header(&mut self, names: &[String]) -> io::Result<()> {
        self.before = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let open = if at == 0 { '{' } else { ',' };
                format!("{open}{}:", json::quoted(name))
            })
            .collect();
        Ok(())
    }

    fn cell(&mut self, value: &str) -> io::Result<()> {
        if let Some(before) = self.before.get(self.next) {
            self.out.write_all(before.as_bytes())?;
            let value = if value.is_empty() { "null" } else { value };
            self.out.write_all(value.as_bytes())?;
        }
        self.next += 1;
        Ok(())
    }

    fn end_row(&mut self) -> io::Result<()> {
        let end: &[u8] = if self.next == 0 { b"{}\n" } else { b"}\n" };
        self.next = 0;
        self.out.write_all(end)
    }

    fn finish(self) -> io::Result<W> {
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_objects_of_the_columns() {
        let mut out = Ndjson::new(Vec::new());
        out.header(&["id".to_owned(), "a \"b\"".to_owned()])
            .unwrap();
        for row in [["1.10", "[1,{}]"], ["\"x\\n\"", ""]] {
            row.iter().try_for_each(|cell| out.cell(cell)).unwrap();
            out.end_row().unwrap();
        }
        out.line(r#"{"z":0}"#).unwrap();
        assert_eq!(
            String::from_utf8(out.finish().unwrap()).unwrap(),
            "{\"id\":1.10,\"a \\\"b\\\"\":[1,{}]}\n{\"id\":\"x\\n\",\"a \\\"b\\\"\":null}\n{\"z\":0}\n"
        );
    }
}

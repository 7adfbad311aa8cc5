//! The rows of a CSV file (RFC 4180), with what the quotes say: the `csv` crate does not tell `""` from
//! nothing.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::{invalid, unpacked};

/// A cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) quoted: bool,
}

/// Reads row after row.
pub(super) struct Cells {
    input: Box<dyn BufRead>,
    delimiter: u8,
    /// The latest.
    pub(super) row: Vec<Cell>,
    /// Its number; the first is 1.
    pub(super) number: u64,
}

impl Cells {
    pub(super) fn new(path: &Path, delimiter: u8) -> io::Result<Self> {
        let input = BufReader::with_capacity(64 * 1024, unpacked(path)?);
        Ok(Self {
            input: Box::new(input),
            delimiter,
            row: Vec::new(),
            number: 0,
        })
    }

    /// Reads the next row; false at the end.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        self.row.clear();
        let (mut bytes, mut quoted) = (Vec::new(), false);
        // Inside of quotes, and whether the last byte there was a quote.
        let (mut inside, mut after) = (false, false);
        let mut is_any = false;
        loop {
            let ready = self.input.fill_buf()?;
            if ready.is_empty() {
                if inside && !after {
                    return Err(invalid("it ends inside of quotes".to_owned()));
                }
                if is_any {
                    self.end_cell(&mut bytes, quoted)?;
                    self.number += 1;
                }
                return Ok(is_any);
            }
            let mut taken = 0;
            let mut is_over = false;
            for byte in ready {
                taken += 1;
                is_any = true;
                match *byte {
                    b'"' if !inside && bytes.is_empty() && !quoted => {
                        (inside, quoted) = (true, true);
                    }
                    b'"' if inside && !after => after = true,
                    byte if inside && after => {
                        after = false;
                        if byte == b'"' {
                            bytes.push(byte);
                        } else {
                            inside = false;
                            if byte == self.delimiter {
                                end_cell(&mut self.row, &mut bytes, quoted)?;
                                quoted = false;
                            } else if byte == b'\n' {
                                is_over = true;
                            } else if byte != b'\r' {
                                bytes.push(byte);
                            }
                        }
                    }
                    byte if inside => bytes.push(byte),
                    byte if byte == self.delimiter => {
                        end_cell(&mut self.row, &mut bytes, quoted)?;
                        quoted = false;
                    }
                    b'\n' => is_over = true,
                    b'\r' => {}
                    byte => bytes.push(byte),
                }
                if is_over {
                    break;
                }
            }
            self.input.consume(taken);
            if is_over {
                self.end_cell(&mut bytes, quoted)?;
                self.number += 1;
                return Ok(true);
            }
        }
    }

    fn end_cell(&mut self, bytes: &mut Vec<u8>, quoted: bool) -> io::Result<()> {
        end_cell(&mut self.row, bytes, quoted)
    }
}

fn end_cell(row: &mut Vec<Cell>, bytes: &mut Vec<u8>, quoted: bool) -> io::Result<()> {
    let text = String::from_utf8(std::mem::take(bytes))
        .map_err(|_| invalid("it is not UTF-8".to_owned()))?;
    row.push(Cell { text, quoted });
    Ok(())
}

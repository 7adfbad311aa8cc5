//! Progress on a terminal: a line a running stream, everything lasting above them.
//!
//! The only file that knows indicatif. Events only change the board; drawing happens when the
//! rim ticks, so ten thousand pages a second cost no more to show than ten.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::event::Event;

use super::board::Board;
use super::lines::lasting;
use super::style::{DIM, paint};
use super::throttle::Throttle;

/// Streams shown at once; the rest is counted.
const MOST: usize = 8;

/// The live part of the screen.
#[derive(Debug)]
pub(super) struct Bars {
    multi: MultiProgress,
    lines: Vec<ProgressBar>,
    board: Board,
    attempts: Throttle,
    verbose: bool,
    colour: bool,
}

impl Bars {
    /// Draws on standard error.
    pub(super) fn new(verbose: bool, colour: bool) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            lines: Vec::new(),
            board: Board::default(),
            attempts: Throttle::default(),
            verbose,
            colour,
        }
    }

    /// Takes one event into account; what lasts is written above the bars.
    pub(super) fn hear(&mut self, event: &Event) {
        self.board.hear(event);
        if let Some(line) = lasting(event, self.verbose, &mut self.attempts) {
            self.say(&line);
        }
    }

    /// Shows where the streams are.
    pub(super) fn draw(&mut self, now: Timestamp, width: usize) {
        let lines = self.lines(now, width);
        while self.lines.len() < lines.len() {
            self.lines.push(self.multi.add(line_of_text()));
        }
        while self.lines.len() > lines.len()
            && let Some(bar) = self.lines.pop()
        {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        for (bar, line) in self.lines.iter().zip(lines) {
            bar.set_message(line);
        }
    }

    fn lines(&self, now: Timestamp, width: usize) -> Vec<String> {
        let names = self.board.name_width();
        // The last column stays free: some terminals wrap as soon as it is written.
        let width = width.saturating_sub(1);
        let mut lines: Vec<String> = self
            .board
            .running()
            .take(MOST)
            .map(|row| row.line(now, width, names))
            .collect();
        let more = self.board.running().count().saturating_sub(MOST);
        if more > 0 {
            let text = format!("and {more} more");
            lines.push(if self.colour { paint(DIM, &text) } else { text });
        }
        lines
    }

    /// Writes a line above the bars.
    pub(super) fn say(&self, line: &str) {
        // There is nobody left to tell when standard error is gone.
        let _ = if self.colour {
            self.multi.println(line)
        } else {
            self.multi
                .println(anstream::adapter::strip_str(line).to_string())
        };
    }

    /// Takes the bars off the screen.
    pub(super) fn clear(&mut self) {
        for bar in self.lines.drain(..) {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        let _ = self.multi.clear();
    }
}

/// A bar that is only its message, cut to the terminal.
fn line_of_text() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_msg}");
    let bar = ProgressBar::new_spinner();
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

//! A failure as a person reads it: one red line, then why, then what to do.

use std::fmt::Write;

use crate::failure::Failure;

use super::clean::clean;
use super::style::{BAD, NOTE, paint};

/// Draws it, with styles and a last newline.
pub fn draw(failure: &Failure) -> String {
    let mut out = format!("{} {}\n", paint(BAD, "error:"), clean(&failure.message));
    out.push_str(&below(failure));
    out
}

/// Draws the failure of a stream, which is named unless the message names it already.
pub fn draw_stream(stream: &str, failure: &Failure) -> String {
    let message = &failure.message;
    if message.starts_with(stream) || message.contains(&format!("stream {stream}")) {
        return draw(failure);
    }
    draw(&Failure {
        message: format!("stream `{stream}`: {message}"),
        ..failure.clone()
    })
}

/// Draws the failure of a pipeline, or of a stream of it, where several are at work.
pub fn draw_of(pipeline: &str, stream: Option<&str>, failure: &Failure) -> String {
    let message = &failure.message;
    let named = Failure {
        message: match stream {
            Some(stream) if !message.starts_with(stream) => {
                format!("{pipeline}: stream `{stream}`: {message}")
            }
            _ => format!("{pipeline}: {message}"),
        },
        ..failure.clone()
    };
    draw(&named)
}

/// The lines below the first.
fn below(failure: &Failure) -> String {
    let mut out = String::new();
    for cause in &failure.causes {
        out.push_str("  because: ");
        out.push_str(&clean(cause));
        out.push('\n');
    }
    if let Some(hint) = &failure.hint {
        // A hint may be a few lines of ours (something to copy); each is cleaned by itself.
        for (i, line) in hint.lines().enumerate() {
            if i == 0 {
                let _ = write!(out, "  {} ", paint(NOTE, "hint:"));
            } else {
                out.push_str("        ");
            }
            out.push_str(&clean(line));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::failure::Exit;

    use super::*;

    #[test]
    fn everything_is_told_and_nothing_escapes() {
        let failure = Failure::new(Exit::Failed, "stream `a\u{1b}[2J` failed")
            .because("404 Not Found")
            .hint("see the path\nand the url");
        let drawn = anstream::adapter::strip_str(&draw(&failure)).to_string();
        insta::assert_snapshot!(drawn, @r"
        error: stream `a\u{1b}[2J` failed
          because: 404 Not Found
          hint: see the path
                and the url
        ");
    }
}

//! The few styles of the house; anstream takes them out where colour is not wanted.

use anstyle::{AnsiColor, Style};

/// Something failed.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something is whole.
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Something is worth a look.
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default();
/// A name.
pub(super) const NAME: Style = Style::new().bold();
/// What may be passed over.
pub(super) const DIM: Style = Style::new().dimmed();

/// `text` in `style`.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

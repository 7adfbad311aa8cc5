//! Who hears how scheduled runs end: checked.

use super::language::Template;

/// Who hears how scheduled runs end.
#[derive(Debug, Default)]
pub struct AlertPlan {
    /// Where a message goes when that changes.
    pub webhook: Option<Template>,
    /// A program and its arguments, started when that changes.
    pub command: Option<Vec<String>>,
    /// What is asked for at the beginning and the end of every run.
    pub ping: Option<PingPlan>,
}

/// What is asked for at the beginning and the end of every run.
#[derive(Debug)]
pub enum PingPlan {
    /// This after a success, and `/start` and `/fail` below it.
    Below(Template),
    /// An address for each.
    Each {
        /// When it begins.
        start: Option<Template>,
        /// When all is published.
        success: Option<Template>,
        /// When it is not.
        failure: Option<Template>,
    },
}

impl AlertPlan {
    /// Whether nobody hears.
    pub fn is_empty(&self) -> bool {
        self.webhook.is_none() && self.command.is_none() && self.ping.is_none()
    }
}

//! What benches measure with, and the bars they are held to.
#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod measure;
pub(crate) mod project;
pub(crate) mod server;

/// Figures beside the bars they must not pass.
#[derive(Default)]
pub(crate) struct Bars(Vec<(String, f64, f64)>);

impl Bars {
    pub(crate) fn judge(&mut self, what: &str, figure: f64, bar: f64) {
        self.0.push((what.to_owned(), figure, bar));
    }

    /// Prints all, and ends the program badly where one is over.
    pub(crate) fn print(&self) {
        println!();
        for (what, figure, bar) in &self.0 {
            let verdict = if figure <= bar { "ok" } else { "OVER" };
            println!("{verdict:<4} {what}: {figure:.3} (bar {bar})");
        }
        if self.0.iter().any(|(_, figure, bar)| figure > bar) {
            std::process::exit(1);
        }
    }
}

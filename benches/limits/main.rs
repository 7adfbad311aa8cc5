//! What limits cost and what they leave: a run at a binding limit beside the ideal, a permit in
//! process, a permit through the book. See `benches/README.md` for the bars.
//!
//! ```sh
//! cargo bench --bench limits
//! ```
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench measures real time, prints, and stops at the first surprise"
)]
#![allow(missing_docs)]

mod book;
#[path = "../gauge/mod.rs"]
mod gauge;
mod ideal;
mod permit;

use gleaner::limits::{Asked, Limits, Needs};
use gleaner::plan::limit::LimitPlan;
use url::Url;

use self::gauge::Bars;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some((first, rest)) = arguments[1..].split_first()
        && first == "holder"
    {
        return book::holder(rest);
    }
    let mut bars = Bars::default();
    permit::measure(&mut bars);
    book::measure(&mut bars);
    ideal::measure(&mut bars);
    bars.print();
}

/// Limits as a file has them.
fn plans(written: &[&str]) -> Vec<LimitPlan> {
    let plan = |written: &&str| LimitPlan::parse(written).expect("a limit");
    written.iter().map(plan).collect()
}

fn base() -> Url {
    Url::parse("https://api.test/v1").expect("an address")
}

/// What a GET needs.
fn needs(limits: &Limits) -> Needs {
    let asked = Asked {
        method: &http::Method::GET,
        url: &base(),
        credential: true,
        variables: &[],
        cost: &[],
    };
    limits.needs(&asked).expect("a covered request")
}

async fn turn(limits: &Limits, needs: &Needs) {
    let mut permit = limits.permit(needs, |_| {}, |_, _| {}).await;
    permit.received();
    permit.answered(Vec::new());
}

/// The figure that this share of `sorted` does not pass.
fn quantile(sorted: &[u64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into the figures"
    )]
    let at = (last * share).round() as usize;
    sorted[at] as f64
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

//! What tests in real time wait for: a look each millisecond, which leaves the cores to those who are waited
//! for, and an end to the patience, which says what never came.

use std::process::Child;
use std::time::Duration;

use gleaner::clock::Clock;

/// Longer than anything takes that is waited for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// Waits until `is_so`.
///
/// # Panics
///
/// After five minutes, with the name of what never came.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = Clock::system();
    let end = clock.now() + PATIENCE;
    while !is_so() {
        assert!(clock.now() < end, "{what}: it never came");
        pass(LOOK);
    }
}

/// The same, or until the process has come to its end: whether it has not.
pub(crate) fn until_or_end(child: &mut Child, what: &str, mut is_so: impl FnMut() -> bool) -> bool {
    let mut is_alive = true;
    until(what, || {
        is_so() || {
            is_alive = child.try_wait().expect("a child").is_none();
            !is_alive
        }
    });
    is_alive
}

/// Lets time pass: a kill or an answer that is late comes in real time.
#[expect(
    clippy::disallowed_methods,
    reason = "real time is what these tests are about"
)]
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// A whole number of milliseconds, for dice.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("not for ages")
}

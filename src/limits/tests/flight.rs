//! Requests in flight, of all processes together.

use super::book::{clock, process, shelf};
use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_has_no_window() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [LimitPlan::parse("2 in flight").unwrap()];
    let one = process(clock, folder.path(), &plans, "");
    let out = [turn(&one).await, turn(&one).await];
    let limit = shelf(clock, folder.path()).limit.expect("a label");
    assert_eq!(
        (limit.window, limit.used, limit.next, limit.whole),
        (None, 2.0, Next::Unknown, None)
    );
    let mut demand = Demand::default();
    demand.add(&needs(&one), 5);
    let forecast = one.forecast(&demand, None).unwrap();
    assert_eq!(
        (forecast[0].window, forecast[0].time),
        (None, Duration::ZERO)
    );
    for permit in out {
        permit.answered(Vec::new());
    }
}

#[tokio::test(start_paused = true)]
async fn processes_that_take_turns_lose_little_between_them() {
    const EACH: u32 = 40;
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [LimitPlan::parse("1 in flight").unwrap()];
    let answer = SEC / 2;
    let run = |who: Limits| async move {
        for _ in 0..EACH {
            let mut permit = turn(&who).await;
            clock.sleep_until(clock.now() + answer).await;
            permit.received();
            permit.answered(Vec::new());
        }
    };
    let one = process(clock, folder.path(), &plans, "");
    let other = process(clock, folder.path(), &plans, "");
    let start = clock.now();
    tokio::join!(run(one), run(other));
    let (took, ideal) = (clock.now() - start, answer * EACH * 2);
    assert!(took < ideal * 102 / 100, "{took:?} of {ideal:?}");
}

//! The book: several holders, restarts, deaths, damage.

use super::*;
use crate::limits::gate::Gate;
use crate::limits::jitter::ABANDONED;
use crate::limits::scope::identities;

fn clock() -> Clock {
    Clock::simulated("2025-01-01T00:00:00Z".parse().expect("a time"))
}

/// A process of its own, as far as the book can tell.
fn process(clock: Clock, folder: &std::path::Path, plans: &[LimitPlan], who: &str) -> Limits {
    let base = Url::parse("https://api.test/v1").expect("a URL");
    let book = Book::open(folder).expect("a book");
    Limits::booked(clock, &base, plans, 16, book, who.to_owned())
}

fn files(folder: &std::path::Path, ending: &str) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(ending))
        .count()
}

#[tokio::test(start_paused = true)]
async fn two_processes_share_what_is_allowed() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [
        plan(20, SEC, Spacing::Usual),
        plan(100, 10 * SEC, Spacing::Burst),
    ];
    let one = process(clock, folder.path(), &plans, "token");
    let other = process(clock, folder.path(), &plans, "token");
    let start = clock.now();
    let (mut arrived, more) =
        tokio::join!(drive(&one, 8, 250, ROUGH), drive(&other, 8, 250, ROUGH));
    let rate = 500.0 / (clock.now() - start).as_secs_f64();
    arrived.extend(more);
    arrived.sort_unstable();
    for plan in &plans {
        assert_eq!(violations(&arrived, plan), 0, "{plan}");
    }
    assert!(rate > 7.0, "{rate}");
    drop((one, other));
    assert_eq!(files(folder.path(), ".holder"), 0, "they retired");
    assert_eq!(files(folder.path(), ".budget"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_restart_grants_nothing_and_another_credential_has_its_own() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [plan(3, 60 * SEC, Spacing::Burst)];
    let one = process(clock, folder.path(), &plans, "token");
    for _ in 0..3 {
        turn(&one).await.answered(Vec::new());
    }
    one.pause(&needs(&one), clock.now() + 90 * SEC, "429");
    drop(one);
    clock.sleep_until(clock.now() + 10 * SEC).await;
    let start = clock.now();
    turn(&process(clock, folder.path(), &plans, "other"))
        .await
        .answered(Vec::new());
    assert!(clock.now() - start < SEC);
    let again = process(clock, folder.path(), &plans, "token");
    turn(&again).await.answered(Vec::new());
    let took = clock.now() - start;
    assert!(took >= 80 * SEC && took < 81 * SEC, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn pipelines_join_a_limit_by_its_name() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let shared = LimitPlan {
        shared_as: Some("archive".to_owned()),
        ..plan(1, 60 * SEC, Spacing::Burst)
    };
    let one = process(clock, folder.path(), std::slice::from_ref(&shared), "token");
    turn(&one).await.answered(Vec::new());
    let base = Url::parse("https://other.test").unwrap();
    let book = Book::open(folder.path()).unwrap();
    let other = Limits::booked(clock, &base, &[shared], 16, book, "other".to_owned());
    let (permit, took) = policies::waits(&other, &needs(&other)).await;
    permit.answered(Vec::new());
    assert!(took >= 60 * SEC && took < 61 * SEC, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_had_out_is_given_up_when_it_is_found_dead() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [plan(1, 60 * SEC, Spacing::Burst)];
    let base = Url::parse("https://api.test/v1").unwrap();
    let living = process(clock, folder.path(), &plans, "");
    let needs = needs(&living);
    let library = Library {
        book: Book::open(folder.path()).unwrap(),
        names: identities(&base, &plans),
        credential: String::new(),
    };
    let mut gate = Gate::new(Arc::clone(&living.shared.rules), Some(library));
    let ticket = gate.ticket();
    gate.arrive(ticket, &needs);
    gate.take(ticket, living.shared.now()).expect("it is free");
    // Held by one who lives.
    let wait = living.permit(&needs, |_| {}, |_, _| {});
    assert!(clock.timeout(300 * SEC, wait).await.is_err());
    let start = clock.now();
    // Killed: nothing is said, and the kernel lets its locks go.
    drop(gate);
    let (permit, took) = policies::waits(&living, &needs).await;
    permit.answered(Vec::new());
    let gone = 60 * SEC + Duration::from_nanos(ABANDONED);
    assert!(
        took >= gone && took < gone + SEC,
        "{took:?} {:?}",
        clock.now() - start
    );
}

#[tokio::test(start_paused = true)]
async fn a_damaged_book_counts_as_used_up_and_says_so() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [plan(3, 60 * SEC, Spacing::Burst)];
    turn(&process(clock, folder.path(), &plans, ""))
        .await
        .answered(Vec::new());
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "budget") {
            std::fs::write(path, vec![7; 200_000]).unwrap();
        }
    }
    let again = process(clock, folder.path(), &plans, "");
    let (permit, took) = policies::waits(&again, &needs(&again)).await;
    permit.answered(Vec::new());
    assert!(took >= 60 * SEC && took < 61 * SEC, "{took:?}");
    let notices = again.notices();
    assert!(
        notices.len() == 1 && notices[0].contains("unreadable"),
        "{notices:?}"
    );
    assert_eq!(files(folder.path(), ".broken"), 1);
}

#[test]
fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("state/limits");
    let book = Book::open(&folder).unwrap();
    book.sheet("token").unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    // The key is the user's, made once: names differ from one folder to the next.
    let name = |folder: &std::path::Path| {
        Book::open(folder).unwrap().sheet("token").unwrap();
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.ends_with(".budget"))
            .collect::<Vec<_>>()
    };
    assert_eq!(name(&folder).len(), 1);
    assert_ne!(name(&folder), name(&outer.path().join("other")));
}

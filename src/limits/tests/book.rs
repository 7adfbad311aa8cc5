//! The book: several holders, restarts, deaths, damage.

use super::*;
use crate::limits::gate::Gate;
use crate::limits::jitter::ABANDONED;
use crate::limits::scope::identities;

pub(super) fn clock() -> Clock {
    Clock::simulated("2025-01-01T00:00:00Z".parse().expect("a time"))
}

/// A process of its own, as far as the book can tell.
pub(super) fn process(
    clock: Clock,
    folder: &std::path::Path,
    plans: &[LimitPlan],
    who: &str,
) -> Limits {
    let base = Url::parse("https://api.test/v1").expect("a URL");
    let mut book = Book::open(folder).expect("a book");
    book.join("items", plans).expect("they agree");
    Limits::booked(clock, &base, plans, 16, book, asker(who))
}

fn asker(credential: &str) -> Asker {
    Asker {
        pipeline: "items".to_owned(),
        credential: credential.to_owned(),
        scrub: Scrub::default(),
    }
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
    let other = Limits::booked(clock, &base, &[shared], 16, book, asker("other"));
    let (permit, took) = policies::waits(&other, &needs(&other)).await;
    permit.answered(Vec::new());
    assert!(took >= 60 * SEC && took < 61 * SEC, "{took:?}");
}

/// Another process that has one request under way.
fn one_out(folder: &std::path::Path, plans: &[LimitPlan], living: &Limits, needs: &Needs) -> Gate {
    let base = Url::parse("https://api.test/v1").unwrap();
    let library = Library {
        book: Book::open(folder).unwrap(),
        names: identities(&base, plans),
        labels: Labels::new(&base, plans, "items", Scrub::default()),
        credential: String::new(),
    };
    let mut gate = Gate::new(living.shared.rules(), Some(library));
    let ticket = gate.ticket();
    gate.arrive(ticket, needs);
    gate.take(ticket, 1, living.shared.now())
        .expect("it is free");
    gate
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_had_out_is_given_up_when_it_is_found_dead() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [plan(1, 60 * SEC, Spacing::Burst)];
    let living = process(clock, folder.path(), &plans, "");
    let needs = needs(&living);
    let gate = one_out(folder.path(), &plans, &living, &needs);
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

#[tokio::test(start_paused = true)]
async fn a_long_quota_whose_book_is_damaged_is_held_for_an_hour() {
    let hour = 3600 * SEC;
    for written in ["3/d", "3/mo"] {
        let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
        let plans = [LimitPlan::parse(written).unwrap()];
        turn(&process(clock, folder.path(), &plans, ""))
            .await
            .answered(Vec::new());
        let file = shelf(clock, folder.path()).file;
        std::fs::write(folder.path().join(file), vec![7; 200_000]).unwrap();
        let again = process(clock, folder.path(), &plans, "");
        let (permit, took) = policies::waits(&again, &needs(&again)).await;
        permit.answered(Vec::new());
        assert!(took >= hour && took < hour + SEC, "{took:?}");
        let notices = again.notices();
        assert!(notices[0].contains("for an hour"), "{notices:?}");
        // What it counts from then on outlives it as before.
        drop(again);
        let limit = shelf(clock, folder.path()).limit.expect("a label");
        assert_eq!((limit.used, limit.allows), (1.0, 3.0));
    }
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

/// The one budget of the book, as one sees it who only looks.
pub(super) fn shelf(clock: Clock, folder: &std::path::Path) -> Known {
    let shelf = Shelf::open(folder).unwrap().expect("a book");
    let mut all = shelf.budgets(&clock).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test(start_paused = true)]
async fn who_looks_sees_what_is_used_by_whom_and_until_when() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    assert!(Shelf::open(folder.path()).unwrap().is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let plans = [plan(3, 60 * SEC, Spacing::Burst)];
    let one = process(clock, folder.path(), &plans, "t0ken");
    turn(&one).await.answered(Vec::new());
    let out = turn(&one).await;
    let last = turn(&one).await;
    let bytes = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let mut all: Vec<_> = files
            .map(|file| file.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    };
    let before = bytes();
    let known = shelf(clock, folder.path());
    assert_eq!(bytes(), before, "looking changes nothing");
    let limit = known.limit.expect("a label");
    assert_eq!(
        (limit.limit.as_str(), limit.used, limit.allows),
        ("3/60s", 3.0, 3.0)
    );
    assert_eq!(limit.origin.as_deref(), Some("https://api.test"));
    assert!(limit.credential);
    assert_eq!(limit.pipelines[0].0, "items");
    assert_eq!(limit.next, Next::At(clock.calendar() + 60 * SEC));
    let me = Member {
        pid: Some(std::process::id()),
        pipeline: Some("items".to_owned()),
        amount: 2.0,
    };
    assert_eq!(
        (known.holding, known.waiting),
        (vec![me.clone()], Vec::new())
    );
    for (path, bytes) in before {
        let is_told = bytes.windows(5).any(|part| part == b"t0ken");
        assert!(!is_told, "{}", path.display());
    }
    // Two wait, and say so; what they waited for is told until they are served.
    out.answered(Vec::new());
    let needs = needs(&one);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (one, needs) = (one.clone(), needs.clone());
        waiting.spawn(async move { one.permit(&needs, |_| {}, |_, _| {}).await });
    }
    clock.sleep_until(clock.now() + SEC).await;
    let known = shelf(clock, folder.path());
    let two = Member { amount: 2.0, ..me };
    assert_eq!(known.waiting, vec![two]);
    one.pause(&needs, clock.now() + 300 * SEC, "429: slow down");
    let known = shelf(clock, folder.path());
    let (until, told) = known.paused.expect("a pause");
    assert_eq!(
        (until, told.as_str()),
        (clock.calendar() + 300 * SEC, "429: slow down")
    );
    waiting.shutdown().await;
    last.answered(Vec::new());
    drop(one);
    clock.sleep_until(clock.now() + 400 * SEC).await;
    let known = shelf(clock, folder.path());
    assert_eq!(
        (known.paused, known.waiting, known.holding),
        (None, vec![], vec![])
    );
    let limit = known.limit.expect("a label");
    assert_eq!(
        (limit.used, limit.next, limit.whole),
        (0.0, Next::Now, None)
    );
}

#[tokio::test(start_paused = true)]
async fn labels_say_what_budgets_are_for_and_hide_secrets() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plan = LimitPlan {
        per: Some(vec![crate::plan::limit::Per::Variable("repo".to_owned())]),
        ..plan(3, 60 * SEC, Spacing::Burst)
    };
    let base = Url::parse("https://api.test/v1").unwrap();
    let book = Book::open(folder.path()).unwrap();
    let asker = Asker {
        scrub: Scrub::new(|text| text.replace("s3cret", "[secret]")),
        ..asker("s3cret")
    };
    let limits = Limits::booked(clock, &base, &[plan], 16, book, asker);
    let needs = needs_of(&limits, "/v1/x", "a/s3cret", &[]).unwrap();
    limits
        .permit(&needs, |_| {}, |_, _| {})
        .await
        .answered(Vec::new());
    let limit = shelf(clock, folder.path()).limit.expect("a label");
    assert_eq!(limit.scope, [("repo".to_owned(), "a/[secret]".to_owned())]);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"s3cret"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_without_a_label_is_shown_and_named_when_it_is_used() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [plan(3, 60 * SEC, Spacing::Burst)];
    turn(&process(clock, folder.path(), &plans, ""))
        .await
        .answered(Vec::new());
    let file = shelf(clock, folder.path()).file;
    let path = folder.path().join(&file);
    let sheet = std::fs::read(&path).unwrap();
    // As it was written before there were labels.
    std::fs::write(&path, &sheet[..2 * 64 * 1024]).unwrap();
    let known = shelf(clock, folder.path());
    assert!(known.limit.is_none() && !known.is_broken && known.written.is_some());
    turn(&process(clock, folder.path(), &plans, ""))
        .await
        .answered(Vec::new());
    let limit = shelf(clock, folder.path()).limit.expect("a label");
    assert_eq!((limit.used, limit.allows), (2.0, 3.0));
    std::fs::write(&path, vec![7; 200_000]).unwrap();
    assert!(shelf(clock, folder.path()).is_broken);
}

/// Works through `requests`, each `took` long, with 4 tasks; gives when each was in flight.
async fn work(limits: Limits, requests: usize, took: Duration) -> Vec<(Instant, Instant)> {
    let clock = limits.shared.clock;
    let left = Arc::new(AtomicUsize::new(requests));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (limits, left) = (limits.clone(), left.clone());
        tasks.spawn(async move {
            let mut flights = Vec::new();
            while left
                .try_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let permit = turn(&limits).await;
                let sent = clock.now();
                clock.sleep_until(sent + took).await;
                flights.push((sent, clock.now()));
                permit.answered(Vec::new());
            }
            flights
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn in_flight(flights: &[(Instant, Instant)]) -> usize {
    let at = |moment: Instant| {
        let up = |(from, to): &&(Instant, Instant)| *from <= moment && moment < *to;
        flights.iter().filter(up).count()
    };
    flights.iter().map(|(from, _)| at(*from)).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn processes_share_what_may_be_in_flight_and_none_starves() {
    for most in [1, 3] {
        let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
        let plans = [LimitPlan::parse(&format!("{most} in flight")).unwrap()];
        let start = clock.now();
        let open = || process(clock, folder.path(), &plans, "token");
        let (one, other, third) = tokio::join!(
            work(open(), 60, 100 * MS),
            work(open(), 60, 100 * MS),
            work(open(), 60, 100 * MS),
        );
        let took = clock.now() - start;
        let all = [&one[..], &other[..], &third[..]].concat();
        assert_eq!((all.len(), in_flight(&all)), (180, most));
        // Who waits looks again every four milliseconds at most.
        let ideal = 180 * 100 * MS / u32::try_from(most).unwrap();
        assert!(took < ideal.mul_f64(1.06), "{took:?} instead of {ideal:?}");
        // They take turns: nobody goes again and again while the others wait.
        let each = [&one, &other, &third];
        let whose = each.iter().enumerate();
        let whose = whose.flat_map(|(who, all)| all.iter().map(move |(from, _)| (*from, who)));
        let mut whose: Vec<_> = whose.collect();
        whose.sort_unstable();
        let while_all_wait = &whose[..whose.len() - 30];
        let streaks = while_all_wait.chunk_by(|(_, one), (_, next)| one == next);
        let longest = streaks.map(<[_]>::len).max().unwrap_or(0);
        assert!(longest <= 2 * most, "{longest} in turn");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_had_in_flight_is_free_soon() {
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let plans = [LimitPlan::parse("1 in flight").unwrap()];
    let living = process(clock, folder.path(), &plans, "");
    let needs = needs(&living);
    let gate = one_out(folder.path(), &plans, &living, &needs);
    let wait = living.permit(&needs, |_| {}, |_, _| {});
    assert!(clock.timeout(300 * SEC, wait).await.is_err());
    drop(gate);
    let (permit, took) = policies::waits(&living, &needs).await;
    // A time-out says nothing of when the server is done with it.
    let known = Duration::from_nanos(ABANDONED);
    assert!(took >= known && took < known + SEC, "{took:?}");
    drop(permit);
    let (permit, took) = policies::waits(&living, &needs).await;
    assert!(took >= known && took < known + MS * 10, "{took:?}");
    permit.answered(Vec::new());
    let (permit, took) = policies::waits(&living, &needs).await;
    permit.answered(Vec::new());
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn who_shares_a_limit_by_name_must_declare_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let shared = |written: &str, name: &str| LimitPlan {
        shared_as: Some(name.to_owned()),
        ..LimitPlan::parse(written).unwrap()
    };
    let join = |pipeline: &str, plan: LimitPlan| {
        let mut book = Book::open(folder.path()).unwrap();
        book.join(pipeline, &[plan]).map(|()| book)
    };
    let one = join("one", shared("100/h", "archive")).unwrap();
    let same = join("same", shared("100/1h", "archive")).unwrap();
    let other = join("other", shared("50/h", "another")).unwrap();
    for written in ["50/h", "100/min", "100 in flight"] {
        let told = join("two", shared(written, "archive"))
            .unwrap_err()
            .to_string();
        let expected = format!("shared as `archive` is {written} here, and 100/");
        assert!(told.contains(&expected), "{told}");
    }
    // Only who runs now counts: what is changed in all files is agreed on again.
    drop((one, same, other));
    join("two", shared("50/h", "archive")).unwrap();
}

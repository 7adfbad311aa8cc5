//! `gleaner schedule`: keeps the times of all pipelines of the project, or runs what is due.

mod coming;
mod files;
mod install;
mod tellers;
mod work;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;

use self::files::Files;
use self::work::{Work, reporter};
use super::drive::Drive;
use super::global::Global;
use super::{out, project, runtime, state};
use crate::disk::Disk;
use crate::event::{Event, Fact};
use crate::failure::{Exit, Failure};
use crate::harvest::Options;
use crate::report::Manner;
use crate::schedule::Hands;
use crate::schedule::agenda::LATE;
use crate::schedule::board::Board;
use crate::schedule::keeper::Keeper;
use crate::schedule::systemd::{Asked, Manager};
use crate::store::locks;
use crate::store::state::StateError;

/// Pipeline files are looked at this often.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Run pipelines at the times that their `schedule` says
///
/// Stays in the foreground, for containers and systemd, and keeps the times of all pipelines of the
/// project. Each decision is on the disk before anything comes of it: after a kill or a power cut, the next
/// start goes on where this one ended. Files that change are read again by themselves; one that
/// is broken leaves what stood in it before in force.
///
/// Ctrl-C and SIGTERM stop gracefully, which is exit code 0: runs keep what they have, and go on at the next start.
///
/// For crontab and Kubernetes, --once runs what has become due since the last time and ends with the
/// exit code of the worst run.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(super) struct ScheduleArgs {
    #[command(subcommand)]
    what: Option<What>,

    /// Run what is due, and end
    #[arg(long)]
    once: bool,

    /// Most runs side by side; limits of APIs are shared among them whatever this says
    #[arg(long, value_name = "N", default_value = "4", value_parser = some)]
    parallel: NonZeroUsize,

    /// Write events as NDJSON to standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    Next(coming::NextArgs),
    Install(install::InstallArgs),
}

impl ScheduleArgs {
    pub(super) fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        match &self.what {
            None => runtime()?.block_on(self.keep(global)),
            Some(What::Next(args)) => args.execute(),
            Some(What::Install(args)) => args.execute(global),
        }
    }

    /// Whether what happens is told as JSON lines on standard error.
    pub(super) fn logs(&self, global: &Global) -> bool {
        self.what.is_none() && !self.json && global.logs(true)
    }

    async fn keep(&self, global: &Global) -> Result<Exit, Failure> {
        let manner = Manner {
            json: self.json,
            verbosity: global.verbosity(),
            terminal: false,
            colour: out::stderr_colour(),
        };
        let logs = self.logs(global);
        let drive = Drive::new(reporter(manner, logs, None));
        let told = drive.reporter.listener();
        let daemon = Daemon {
            root: project::root()?,
            drive,
            manner,
            logs,
            once: self.once,
            parallel: self.parallel,
            options: options()?,
        };
        daemon.keep(told).await
    }
}

/// What keeps the schedule of a project.
struct Daemon {
    root: PathBuf,
    drive: Drive,
    manner: Manner,
    /// Whether what happens is told as JSON lines.
    logs: bool,
    /// Only what is due.
    once: bool,
    parallel: NonZeroUsize,
    options: Options,
}

impl Daemon {
    /// Keeps it to its end; what happens to it goes to `told`.
    async fn keep(self, told: impl Fn(&Event) + Send + Sync + 'static) -> Result<Exit, Failure> {
        let Self {
            root,
            drive,
            manner,
            logs,
            once,
            parallel,
            options,
        } = self;
        let clock = drive.clock;
        let now = clock.calendar();
        let disk = Disk::system();
        let _lock = locks::schedule(&disk, &root, now).map_err(|error| *error.into_failure())?;
        // Whoever is called now and then may be called a moment after the first time it should have seen.
        let reach = if once { LATE } else { SignedDuration::ZERO };
        let board = Board::open(&disk, &root, now, reach);
        let board = board.map_err(|error: StateError| *error.into_failure())?;
        let files = Arc::new(Files::new(root.clone()));
        let known = Arc::clone(&files);
        let work = Work::new(drive.clone(), manner, logs, options, known, root);
        let work = Arc::new(work);
        let owed = tokio::spawn(Arc::clone(&work).make_up());
        let (runs, hears) = (Arc::clone(&work), Arc::clone(&work));
        let hands = Hands {
            read: Box::new(move || files.read().map_err(Box::new)),
            run: Box::new(move |order, _| {
                let work = Arc::clone(&runs);
                Box::pin(async move { work.run(order).await })
            }),
            tell: Box::new(move |fact: Fact| {
                hears.hear(&fact);
                let at = clock.calendar();
                told(&Event { at, fact });
            }),
        };
        let keeper = Keeper {
            clock,
            hands: Arc::new(hands),
            parallel,
            read_every: READ_EVERY,
            once,
            stop: drive.stop.asked.clone(),
            manager: Manager::find(&Asked::of_environment()),
        };
        let worst = keeper.keep(board).await;
        // Nobody else is there to tell it until the next call; once a stop is asked for, not even that is waited for.
        let _ = drive.unless_stopped(owed).await;
        work.all_told().await;
        Ok(match (once, drive.stop.is_asked()) {
            (true, false) => worst,
            (true, true) => drive.stop.exit(worst.worst(Exit::Interrupted)),
            // Runs that failed have said so; the schedule did what it is for.
            (false, _) => Exit::Complete,
        })
    }
}

/// A number of things of which there is one at least.
fn some(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "write a whole number from 1 on".to_owned())
}

fn options() -> Result<Options, Failure> {
    Ok(Options {
        limits: state::limits(),
        keep_free: state::keep_free()?,
        state: state::folder(),
        ..Options::default()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use jiff::Timestamp;
    use serde_json::Value;
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::clock::Clock;
    use crate::report::Reporter;
    use crate::sim::{
        Dataset, Fault, FaultRule, Listing, Paging, Route, Rules, ServerLimit, SimApi,
    };
    use crate::store::history::Status;
    use crate::store::state::State;

    /// A server that hears requests whole and says JSON, or nothing for as long as the test lasts.
    fn server(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream?);
                    let (mut request, mut length) = (String::new(), 0);
                    while reader.read_line(&mut request)? > 2 {
                        let line = request.lines().last().unwrap_or_default().to_lowercase();
                        if let Some(value) = line.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap_or(0);
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body)?;
                    request.push_str(&String::from_utf8_lossy(&body));
                    match answer(&request) {
                        Some(body) => write!(
                            reader.get_mut(),
                            "HTTP/1.1 200 X\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        ),
                        // Nothing comes until whoever asked has gone.
                        None => reader.read_to_end(&mut Vec::new()).map(drop),
                    }
                });
            }
        });
        url
    }

    fn page_of(request: &str) -> usize {
        let target = request.split(' ').nth(1).expect("a target");
        let page = target
            .split(['?', '&'])
            .find_map(|part| part.strip_prefix("page="));
        page.expect("a page").parse().expect("a number")
    }

    /// A pipeline of eighty records in pages of ten, for half past two in Berlin.
    fn pipeline(url: &str, path: &str, key: &str, name: &str, hook: &str, more: &str) -> String {
        format!(
            "source:\n  url: \"{url}\"\n  auth: {{ bearer: \"{{{{ secret.{key} }}}}\" }}\n  limits: [20/s]\n\
             streams: {{ items: {{ get: {path}, query: {{ per_page: 10 }}, records: data, pages: {{ page: {{ to: page, size: per_page, total: n }} }}, key: id }} }}\n\
             sink: {{ ndjson: \"out/{name}.ndjson\" }}\n\
             schedule: {{ cron: \"30 2 * * *\", zone: Europe/Berlin, on_failure: {{ webhook: \"{hook}/told/{name}\" }}, ping: \"{hook}/ping/{name}\"{more} }}\n"
        )
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    /// The whole daemon over two nights, one of them that of the change of clocks: once it is up, its calendar is put
    /// to shortly before half past two, and all else is as in a real night: cron, sockets, limits, faults.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_nights_of_the_daemon_with_faults_a_server_that_hangs_and_a_broken_file() {
        let project = tempfile::tempdir().expect("a folder");
        let root = project.path().to_owned();
        let second = Duration::from_secs(1);
        let records = || Dataset::from_texts((1..=80).map(|id| format!(r#"{{"id":{id}}}"#)));
        let of_key = |under: &str| ServerLimit {
            under: Some(under.to_owned()),
            ..ServerLimit::sliding(20, second)
        };
        let routes = (0..9).map(|n| {
            let listing = Listing::new(records(), Paging::page_total("n")).size(10);
            Route::list(&format!("/{}/p{n}", ["a", "b"][n % 2]), listing)
        });
        let faults = [
            (4, Fault::status(503)),
            (9, Fault::Reset),
            (15, Fault::TruncatedBody),
        ];
        // Of the second night, which begins after 72 pages and what was asked for twice.
        let more = [
            (90, Fault::status(503)),
            (100, Fault::Reset),
            (110, Fault::TruncatedBody),
        ];
        let faults = faults.into_iter().chain(more);
        let api = SimApi::new(Rules {
            routes: routes.collect(),
            limits: vec![of_key("/a/"), of_key("/b/")],
            faults: faults.map(|(n, fault)| FaultRule::nth(n, fault)).collect(),
            ..Rules::default()
        });
        let api = crate::sim::Server::start_on_own_thread(api).expect("a port");
        let hangs = Arc::new(AtomicBool::new(true));
        let (asked, held): (Arc<Mutex<Vec<usize>>>, _) = (Arc::default(), Arc::clone(&hangs));
        let pages = Arc::clone(&asked);
        let hung = server(move |request| {
            let page = page_of(request);
            pages.lock().expect("no panic").push(page);
            let ids = (page - 1) * 10 + 1..=page * 10;
            let rows: Vec<String> = ids.map(|id| format!(r#"{{"id":{id}}}"#)).collect();
            (page < 3 || !held.load(Ordering::SeqCst))
                .then(|| format!(r#"{{"data":[{}],"n":80}}"#, rows.join(",")))
        });
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&heard);
        let hook = server(move |request| {
            told.lock().expect("no panic").push(request.to_owned());
            Some("{}".to_owned())
        });
        for n in 0..9 {
            let (key, under) = [("KEY_A", "a"), ("KEY_B", "b")][n % 2];
            let (path, name) = (format!("/{under}/p{n}"), format!("p{n}"));
            let text = pipeline(&api.url(), &path, key, &name, &hook, "");
            write(&root, &format!("pipelines/{name}.yaml"), &text);
        }
        let more = ", deadline: 15s";
        let text = pipeline(&hung, "/hung", "KEY_B", "hung", &hook, more);
        write(
            &root,
            "pipelines/hung.yaml",
            &format!("resume_within: 30h\n{text}"),
        );
        let broken = pipeline(&api.url(), "/a/p0", "KEY_A", "broken", &hook, "");
        write(
            &root,
            "pipelines/broken.yaml",
            &broken.replace("get:", "gte:"),
        );
        write(&root, ".env", "KEY_A=secret-of-a\nKEY_B=secret-of-b\n");

        let clock = Clock::adjustable("2026-03-28T01:00:00Z".parse().expect("a moment"));
        let mut drive = Drive::new(Reporter::new(Manner::QUIET));
        drive.clock = clock;
        let (asks, stop) = watch::channel(false);
        drive.stop.asked = stop;
        let daemon = Daemon {
            root: root.clone(),
            drive,
            manner: Manner::QUIET,
            logs: false,
            once: false,
            parallel: NonZeroUsize::new(10).expect("some"),
            options: Options {
                limits: Some(root.join("limits")),
                state: Some(root.join("state")),
                ..Options::default()
            },
        };
        let (tells, mut facts) = mpsc::unbounded_channel();
        let kept = tokio::spawn(daemon.keep(move |event| {
            // Nobody listens any more at its end.
            let _ = tells.send(event.fact.clone());
        }));
        // Longer than anything takes here, on a machine that does much else.
        let patience = Duration::from_mins(5);
        let mut next_fact = async || {
            let fact = clock.timeout(patience, facts.recv()).await;
            fact.expect("in time").expect("it goes on")
        };
        let shortly_before = |at: Timestamp| {
            clock.set(at.duration_since(clock.calendar()) - SignedDuration::from_secs(1));
        };
        let all_told = async |requests: usize| {
            let end = clock.now() + patience;
            while heard.lock().expect("no panic").len() < requests {
                assert!(clock.now() < end, "not all was told");
                clock
                    .sleep_until(clock.now() + Duration::from_millis(2))
                    .await;
            }
        };

        // It is up when it knows all that can be understood.
        let (mut known, mut broken) = (0, Vec::new());
        while known < 10 {
            match next_fact().await {
                Fact::Scheduled { .. } => known += 1,
                other => broken.push(other),
            }
        }
        assert!(
            matches!(&broken[..], [Fact::ScheduleBroken { pipeline, .. }] if &**pipeline == "broken"),
            "{broken:?}"
        );
        // What came of the ten times of a night, and what else was told.
        let mut night = async || {
            let mut ends: BTreeMap<String, (Timestamp, u8)> = BTreeMap::new();
            let mut others = Vec::new();
            while ends.len() < 10 {
                match next_fact().await {
                    Fact::TimeDone {
                        pipeline,
                        planned,
                        exit,
                        ..
                    } => {
                        let before = ends.insert(pipeline.to_string(), (planned, exit));
                        assert_eq!(before, None, "{pipeline} ran twice");
                    }
                    Fact::TimeCame { .. } | Fact::ScheduleWaits { .. } => {}
                    other => others.push(other),
                }
            }
            (ends, others)
        };
        let whole = |name: &str| {
            let rows = std::fs::read_to_string(root.join(format!("out/{name}.ndjson")));
            rows.expect("an output")
                .lines()
                .collect::<BTreeSet<_>>()
                .len()
                == 80
        };

        let planned: Timestamp = "2026-03-28T01:30:00Z".parse().expect("a moment");
        shortly_before(planned);
        let (ends, others) = night().await;
        for (name, end) in &ends {
            let exit = if name == "hung" { 75 } else { 0 };
            assert_eq!(*end, (planned, exit), "{name}");
            assert!(exit == 75 || whole(name), "{name}");
        }
        assert!(
            !root.join("out/hung.ndjson").exists(),
            "whole or not at all"
        );
        assert!(others.is_empty(), "{others:?}");
        let first_faults = api.api().audit().faults();
        assert!(first_faults >= 3, "nothing went wrong in the first night");
        let first = asked.lock().expect("no panic").len();

        // Two signs of each, one that hangs and one that is broken: a sign that waits gives way to the next.
        all_told(22).await;
        // The next night has no half past two: three o'clock takes its place, which is 01:00 UTC.
        hangs.store(false, Ordering::SeqCst);
        let next: Timestamp = "2026-03-29T01:00:00Z".parse().expect("a moment");
        shortly_before(next);
        let (ends, others) = night().await;
        for (name, end) in &ends {
            assert_eq!(*end, (next, 0), "{name}");
            assert!(whole(name), "{name}");
        }
        assert!(others.is_empty(), "{others:?}");
        let audit = api.api().audit();
        assert!(
            audit.faults() >= first_faults + 3,
            "nothing went wrong in the second night"
        );
        let mut last = asked.lock().expect("no panic").split_off(first);
        last.sort_unstable();
        assert_eq!(
            last,
            [3, 4, 5, 6, 7, 8],
            "what came before is not asked for again"
        );
        let runs = State::open(&Disk::system(), &root)
            .expect("a state")
            .runs(Some("hung"));
        let runs = runs.expect("readable");
        assert_eq!(runs.len(), 1, "{runs:#?}");
        assert_eq!((runs[0].status, runs[0].attempts), (Status::Complete, 2));

        // What both keys were allowed, by the server's own account.
        assert_eq!(audit.refusals(), 0, "the server refused");
        for under in ["/a/", "/b/"] {
            let most = audit.max_in_window_under(under, second);
            assert!(most <= 20, "{under}: {most}");
        }
        // Two signs of each more, and one that is well again.
        all_told(43).await;
        asks.send_replace(true);
        assert_eq!(kept.await.expect("no panic").expect("kept"), Exit::Complete);
        let heard = heard.lock().expect("no panic");
        let mut told: Vec<String> = Vec::new();
        let mut pings: BTreeMap<String, usize> = BTreeMap::new();
        for request in &*heard {
            let target = request.split(' ').nth(1).expect("a target");
            if let Some(ping) = target.strip_prefix("/ping/") {
                *pings.entry(ping.to_owned()).or_default() += 1;
                continue;
            }
            let body = request.split("\r\n\r\n").nth(1).expect("a body");
            assert!(!request.contains("secret-of"), "{request}");
            let body: Value = serde_json::from_str(body).expect("JSON");
            told.push(format!(
                "{target} {}",
                body["event"].as_str().expect("an event")
            ));
        }
        told.sort();
        let wanted = [
            "/told/broken broken",
            "/told/hung recovered",
            "/told/hung unfinished",
        ];
        assert_eq!(told, wanted, "once each");
        let mut wanted = BTreeMap::from([
            ("hung/fail".to_owned(), 1),
            ("hung".to_owned(), 1),
            ("hung/start".to_owned(), 2),
        ]);
        for n in 0..9 {
            wanted.insert(format!("p{n}"), 2);
            wanted.insert(format!("p{n}/start"), 2);
        }
        assert_eq!(pings, wanted);
    }
}

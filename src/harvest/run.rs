//! What all streams of a run share: the world, rendered auth, limits, budget.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use url::Url;

use super::attempt::budget::Budget;
use super::attempt::hosts::Hosts;
use super::events::Events;
use super::names::Names;
use super::partitions::family::Family;
use super::partitions::files::Files;
use super::partitions::windows::Windows;
use super::publish::keep;
use super::secrets::Secrets;
use super::together::Tables;
use super::tokens::Tokens;
use super::tokens::auth::{self, Setting};
use super::{Options, World, tape};
use crate::clock::Instant;
use crate::failure::{Exit, Failure};
use crate::fetch::credentials::Credentials;
use crate::fetch::origin::Policy;
use crate::fetch::record::Recording;
use crate::limits::{Asker, Book, BookProblem, Disagreement, Limits, Scrub};
use crate::plan::language::{LanguageProblem, Template};
use crate::plan::limit::{LimitPlan, LimitWhen};
use crate::plan::{Plan, duration};

/// How long answers in flight are waited for when somebody asks to stop.
const GRACE: Duration = Duration::from_secs(8);

/// What all streams of a run share.
#[derive(Debug)]
pub(super) struct Run {
    /// What will be done.
    pub(super) plan: Plan,
    /// The outside.
    pub(super) world: World,
    /// What is different this time.
    pub(super) options: Options,
    /// What each stream of the plan asks for, where it has a cursor.
    pub(super) windows: Vec<Option<Windows>>,
    /// The run's id: start and a random end.
    pub(super) id: String,
    /// When its first attempt began: what templates take for now.
    pub(super) started: Timestamp,
    /// Names that templates see.
    pub(super) names: Names,
    /// For scrubbing.
    pub(super) secrets: Arc<Secrets>,
    /// Attached to requests of allowed origins only. Where tokens are sent it only shows where they go.
    pub(super) credentials: Credentials,
    /// Where the credential does not last.
    pub(super) tokens: Option<Tokens>,
    /// Which origins are allowed.
    pub(super) policy: Policy,
    /// The source's URL, rendered.
    pub(super) base: Url,
    /// Whose turn it is.
    pub(super) limits: Limits,
    /// How the hosts are.
    pub(super) hosts: Hosts,
    /// The User-Agent.
    pub(super) agent: http::HeaderValue,
    /// Bytes between network and disk.
    pub(super) budget: Budget,
    /// Rows of `for` files.
    pub(super) files: Files,
    /// Parents and children among its streams.
    pub(super) family: Family,
    /// Streams that write one table.
    pub(super) tables: Tables,
    /// Seeds the jitter of retries.
    pub(super) seed: u64,
    /// The limits that count: those `limits` was made from, in that order.
    pub(super) counted: Vec<LimitPlan>,
    /// What writes exchanges down, if anything does.
    pub(super) recording: Option<Arc<Recording>>,
    ignored_signals: AtomicU64,
    waits: AtomicU64,
    reached: AtomicBool,
    /// Requests that were sent and must not be sent twice, where nobody knows what came of them;
    /// of streams that have ended.
    pub(super) unknown: AtomicUsize,
    /// Until when what is in flight may end, once somebody asked to stop.
    grace: OnceLock<Instant>,
    /// When it is ended, if it is not done by then.
    deadline: OnceLock<Instant>,
}

/// What is fixed when a run begins, and stays when it goes on.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) id: String,
    pub(super) seed: u64,
    pub(super) started: Timestamp,
    /// [`RunStart::secrets`](crate::store::row::RunStart::secrets) of a run that is gone on with.
    pub(super) secrets: Vec<String>,
}

impl Beginning {
    /// A run that began then, with this seed.
    pub(super) fn of(started: Timestamp, seed: u64) -> Self {
        Self {
            id: format!(
                "{}-{:04x}",
                started.strftime("%Y%m%dT%H%M%SZ"),
                seed & 0xffff
            ),
            seed,
            started,
            secrets: Vec::new(),
        }
    }

    /// A run that begins now.
    pub(super) fn at(now: Timestamp) -> Self {
        Self::of(now, fastrand::u64(..))
    }
}

impl Run {
    /// Renders what is the same for all streams.
    pub(super) fn open(
        plan: Plan,
        mut world: World,
        options: Options,
        beginning: Beginning,
    ) -> Result<Self, Box<Failure>> {
        let secrets = Arc::new(if let Some(cassette) = options.tape.played() {
            Secrets::of_replay(&cassette.head.secrets, &cassette.head.env)
        } else if options.offline {
            Secrets::load_or_stand_in(&plan, &world.root)?
        } else if options.is_from_kept() {
            Secrets::of_kept(&plan, &world.root, &beginning.secrets)?
        } else {
            Secrets::load(&plan, &world.root)?
        });
        // The one door of events: whatever a place that emits one forgot, no secret passes.
        let (scrubber, outer) = (Arc::clone(&secrets), world.events);
        world.events = Events::new(world.clock, move |event| {
            outer.forward(scrubber.scrub_event(event).as_ref().unwrap_or(event));
        });
        let scrubber = Arc::clone(&secrets);
        Self::render(plan, world, options, beginning, secrets)
            .map_err(|failure| scrubber.scrub_failure(failure))
    }

    fn render(
        plan: Plan,
        mut world: World,
        options: Options,
        beginning: Beginning,
        secrets: Arc<Secrets>,
    ) -> Result<Self, Box<Failure>> {
        let windows = keep::windows(&plan, &world, &options, beginning.started)?;
        let names = Names::new(&plan, &secrets, beginning.started)
            .map_err(|e| unrendered("source.contact", &e))?;
        let base = base_url(&plan.source.url, &names)?;
        let (credentials, tokens) = auth::open(
            &plan.source.auth,
            &Setting {
                names: &names,
                base: &base,
                root: &world.root,
                disk: &world.disk,
                state: options.state.as_deref(),
                secrets: &secrets,
                offline: options.offline || options.tape.is_replay() || options.is_from_kept(),
            },
        )?;
        let counted: Vec<LimitPlan> = plan
            .source
            .limits
            .iter()
            .filter(|limit| match limit.when {
                LimitWhen::Always => true,
                LimitWhen::Auth => !credentials.is_empty(),
                LimitWhen::NoAuth => credentials.is_empty(),
            })
            .cloned()
            .collect();
        if counted.is_empty() && !plan.source.limits.is_empty() {
            let missing = if credentials.is_empty() {
                "not auth"
            } else {
                "auth"
            };
            return Err(Box::new(Failure {
                exit: Exit::Invalid,
                message: format!(
                    "no limit of `{}` counts: {}",
                    plan.name,
                    if credentials.is_empty() {
                        "no credential is sent"
                    } else {
                        "a credential is sent"
                    }
                ),
                causes: Vec::new(),
                hint: Some(format!(
                    "add a limit with `if: {missing}`, or one without `if`"
                )),
            }));
        }
        let agent = crate::fetch::agent::user_agent(names.contact.as_deref()).map_err(|e| {
            Box::new(Failure {
                exit: Exit::Usage,
                message: format!("`source.contact`: {e}"),
                causes: Vec::new(),
                hint: None,
            })
        })?;
        let slots = plan.source.concurrency.get();
        let limits = match &options.limits {
            // What is never sent is not entered anywhere.
            Some(folder)
                if !(options.offline
                    || options.is_from_kept()
                    || counted.iter().all(LimitPlan::is_auto)) =>
            {
                let mut book = Book::open(folder).map_err(|problem| no_book(&problem))?;
                let joined = book.join(&plan.name, &counted);
                joined.map_err(|problem| disagreement(&problem))?;
                let known = secrets.clone();
                let asker = Asker {
                    pipeline: plan.name.clone(),
                    credential: credentials.identity(),
                    scrub: Scrub::new(move |text| known.scrub(text)),
                };
                Limits::booked(world.clock, &base, &counted, slots, book, asker)
            }
            _ => Limits::new(world.clock, &base, &counted, slots),
        };
        let hosts = Hosts::new(world.clock, slots, plan.source.retry.page_deadline);
        let recording = tape::wind(
            &plan,
            &mut world,
            &options,
            &beginning,
            &secrets,
            &credentials,
        )?;
        let Beginning {
            id, seed, started, ..
        } = beginning;
        let policy = Policy::new(&base, &plan.source.allow_origins);
        let family = Family::new(&plan, &options.streams);
        Ok(Self {
            tables: Tables::new(&plan, &family),
            family,
            plan,
            world,
            options,
            windows,
            id,
            started,
            names,
            secrets,
            credentials,
            tokens,
            policy,
            base,
            limits,
            hosts,
            agent,
            budget: Budget::default(),
            files: Files::default(),
            seed,
            counted,
            ignored_signals: AtomicU64::new(0),
            recording,
            waits: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            unknown: AtomicUsize::new(0),
            grace: OnceLock::new(),
            deadline: OnceLock::new(),
        })
    }

    /// The time of the run begins: whom it tells of that before has a time of its own.
    pub(super) fn begin(&self) -> Instant {
        let now = self.world.clock.now();
        if let Some(most) = self.options.deadline {
            self.deadline.get_or_init(|| now + most);
        }
        now
    }

    /// `work`, unless somebody asks the run to stop first, or its deadline comes.
    pub(super) async fn until_stopped<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, Box<Failure>> {
        // Work that never waits would never be interrupted below.
        if *self.world.stop.borrow() || self.is_overdue() {
            return Err(interrupted());
        }
        // Where it is, for it is large, and `select!` would move it.
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => Ok(done),
            () = self.must_end() => Err(interrupted()),
        }
    }

    /// Waits until somebody asks to stop, or the deadline comes.
    async fn must_end(&self) {
        let mut stop = self.world.stop.clone();
        match self.deadline.get() {
            None => stopped(&mut stop).await,
            Some(&at) => {
                // Either way it has to end.
                let _ = self.world.clock.timeout_at(at, stopped(&mut stop)).await;
            }
        }
    }

    fn is_overdue(&self) -> bool {
        let now = self.world.clock.now();
        self.deadline.get().is_some_and(|deadline| now >= *deadline)
    }

    /// What ended because the deadline came, and not because somebody asked to stop, says so.
    pub(super) fn if_overdue(&self, stream: &str, failure: Box<Failure>) -> Box<Failure> {
        let most = self.options.deadline.filter(|_| self.is_overdue());
        match most {
            Some(most) if failure.exit == Exit::Interrupted && !*self.world.stop.borrow() => {
                Box::new(Failure {
                    exit: Exit::Resumable,
                    message: format!(
                        "{stream}: not complete by its deadline of {}",
                        duration::show(most)
                    ),
                    causes: Vec::new(),
                    hint: Some("what was published before is untouched, and what was fetched is kept; raise `deadline` if a run never has the time it needs".to_owned()),
                })
            }
            _ => failure,
        }
    }

    /// `work` that has been sent: asked to stop, it gets a moment to come to its end, and all its
    /// time if it is `paid` for and cannot be sent again.
    pub(super) async fn in_flight<T>(
        &self,
        work: impl Future<Output = T>,
        paid: bool,
    ) -> Result<T, Box<Failure>> {
        if paid {
            return Ok(work.await);
        }
        let clock = self.world.clock;
        let over = async {
            self.must_end().await;
            clock
                .sleep_until(*self.grace.get_or_init(|| clock.now() + GRACE))
                .await;
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = over => Err(interrupted()),
        }
    }

    /// A number for the next wait.
    pub(super) fn wait_id(&self) -> u64 {
        self.waits.fetch_add(1, Ordering::Relaxed)
    }

    /// So many values of an answer say nothing of limits, though they should.
    pub(super) fn ignore_signals(&self, values: u32) {
        self.ignored_signals
            .fetch_add(values.into(), Ordering::Relaxed);
    }

    /// How many there were.
    pub(super) fn ignored_signals(&self) -> u64 {
        self.ignored_signals.load(Ordering::Relaxed)
    }

    /// The source answered once: its name and address are right.
    pub(super) fn mark_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Whether it ever answered.
    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// A failure as it leaves the run: it names its stream, and whatever it was put together from,
    /// no secret is in it.
    pub(super) fn told(&self, stream: &str, failure: Box<Failure>) -> Box<Failure> {
        let mut failure = self.secrets.scrub_failure(failure);
        let named = failure
            .message
            .strip_prefix(stream)
            .is_some_and(|rest| rest.starts_with([',', ':']));
        if !named {
            failure.message = format!("{stream}: {}", failure.message);
        }
        failure
    }

    /// A URL for people: without credentials, scrubbed.
    pub(super) fn show_url(&self, url: &Url) -> String {
        self.secrets.scrub(&self.credentials.redact(url))
    }
}

/// The failure of a stream that was asked to stop.
pub(super) fn interrupted() -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Interrupted,
        message: "stopped before it was complete".to_owned(),
        causes: Vec::new(),
        hint: Some("what was published before is untouched; run again to continue".to_owned()),
    })
}

async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could ask.
        std::future::pending::<()>().await;
    }
}

fn disagreement(problem: &Disagreement) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Invalid,
        message: problem.to_string(),
        causes: Vec::new(),
        hint: Some(
            "pipelines that share a limit declare the same; correct one of them, or give it another name"
                .to_owned(),
        ),
    })
}

/// The book of limits cannot be used.
pub(super) fn no_book(problem: &BookProblem) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Disk,
        message: problem.to_string(),
        causes: Vec::new(),
        hint: Some(
            "limits are shared by all runs of this machine there; make the folder writable, or set GLEANER_STATE_DIR to another one"
                .to_owned(),
        ),
    })
}

/// A template that failed when the run opened.
pub(super) fn unrendered(key: &str, problem: &LanguageProblem) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Usage,
        message: format!("`{key}` cannot be rendered: {problem}"),
        causes: Vec::new(),
        hint: None,
    })
}

fn base_url(template: &Template, names: &Names) -> Result<Url, Box<Failure>> {
    let text = template
        .text(&names.request(&[]))
        .map_err(|e| unrendered("source.url", &e))?;
    // Before an `@` may stand a user name and a password.
    let shown = match text.rsplit_once('@') {
        None => text.clone(),
        Some((_, host)) => format!("…@{host}"),
    };
    let wrong = |why: String| {
        Box::new(Failure {
            exit: Exit::Usage,
            message: format!("`source.url` renders to {shown:?}, {why}"),
            causes: Vec::new(),
            hint: Some("it must read like https://api.example.org/v1".to_owned()),
        })
    };
    let url = Url::parse(&text).map_err(|e| wrong(format!("which is not a URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong("which is not an http or https URL".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "which holds a user name or password; use `auth`".to_owned(),
        ));
    }
    Ok(url)
}

//! One run of the schedule, from the text of its file to its last word; and those who are told of runs and files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::files::Files;
use super::tellers::{About, Tellers};
use crate::cli::drive::{Connect, Drive, Ready, came_to, off};
use crate::cli::rooms::{self, NoPlan, Overrides};
use crate::cli::{again, project, run};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::harvest::alerts::{Watch, was_broken};
use crate::harvest::summary::Summary;
use crate::harvest::{Harvest, Options};
use crate::plan::Plan;
use crate::report::{Manner, Reporter, Verbosity};
use crate::schedule::Order;
use crate::store::state::State;

/// What all runs have in common.
pub(super) struct Work {
    drive: Drive,
    manner: Manner,
    /// Whether what happens is told as JSON lines.
    logs: bool,
    root: PathBuf,
    options: Options,
    files: Arc<Files>,
    connect: Connect,
    /// How files are now: broken so, or well.
    looks: Mutex<HashMap<String, How>>,
    tellers: Tellers,
}

/// How a file is.
enum How {
    Broken(Failure),
    Well,
}

/// Who tells of the schedule, or of one pipeline.
pub(super) fn reporter(manner: Manner, logs: bool, name: Option<&str>) -> Arc<Reporter> {
    let now = || Clock::system().calendar();
    if logs {
        Reporter::log(manner.verbosity, name, now)
    } else {
        Reporter::scheduled(manner, name, now)
    }
}

impl Work {
    pub(super) fn new(
        drive: Drive,
        manner: Manner,
        logs: bool,
        options: Options,
        files: Arc<Files>,
        root: PathBuf,
    ) -> Self {
        Self {
            drive,
            manner,
            logs,
            root,
            options,
            files,
            connect: rooms::transport_or_plain,
            looks: Mutex::default(),
            tellers: Tellers::default(),
        }
    }

    /// One run, from the text of its file to its end. When this is over its outcome is on the disk; people are told
    /// of it beside that.
    pub(super) async fn run(self: &Arc<Self>, order: Order) -> Exit {
        let drive = Drive {
            reporter: reporter(self.manner, self.logs, Some(&order.name)),
            ..self.drive.clone()
        };
        let options = Options {
            deadline: order.deadline,
            planned: Some(order.at),
            ..self.options.clone()
        };
        let teller = Arc::clone(&drive.reporter);
        let (name, path) = (order.name.clone(), order.path.clone());
        let root = self.root.clone();
        let plan = match off(move || plan_of(&order, &root))
            .await
            .and_then(|plan| plan)
        {
            Ok(plan) => plan,
            Err(failure) => {
                // Who is named can perhaps still be read.
                if let Some(watch) = self.listener(&name).await {
                    self.ended(&name, &Arc::new(watch), Err(&failure)).await;
                }
                return self.told(&name, &teller, Err(failure));
            }
        };
        // Who watches is there first, so that no failure goes unheard.
        let ready = drive.ready(plan, self.connect, &self.root, true, |transport| {
            drive.shared_world(transport, self.root.clone())
        });
        let Ready {
            plan,
            world,
            watch,
            refused,
        } = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return self.told(&name, &teller, Err(failure)),
        };
        let watch = watch.map(Arc::new);
        let outside = world.clone();
        let ended = tokio::spawn(async move { again::end(&path, &outside).await });
        let refused = refused.or(came_to(ended.await).err());
        // Opening reads files and takes locks, which others need not wait for.
        let opened = off(move || match refused {
            Some(failure) => {
                Harvest::not_opened(&plan, &world, &options, &failure);
                Err(failure)
            }
            None => Harvest::open(plan, world, options).map_err(|failure| *failure),
        });
        let ended = match opened.await.and_then(|opened| opened) {
            Ok(harvest) => {
                if let Some(watch) = &watch {
                    self.began(&name, watch);
                }
                came_to(tokio::spawn(harvest.run()).await)
            }
            Err(failure) => Err(failure),
        };
        let ended = ended.map(|mut summary| {
            summary.exit = self.drive.stop.exit(summary.exit);
            summary
        });
        if let Some(watch) = &watch {
            self.ended(&name, watch, ended.as_ref()).await;
        }
        self.told(&name, &teller, ended)
    }

    /// A run begins: who counts signs of life hears of it, and who is owed anything that.
    fn began(self: &Arc<Self>, name: &str, watch: &Arc<Watch>) {
        watch.begins();
        let [sign, runs] = [watch, watch].map(Arc::clone);
        self.tellers
            .tell(name, About::Sign, async move { sign.ping_start().await });
        self.tellers
            .tell(name, About::Runs, async move { runs.tell_of_runs().await });
        self.tell_of_file(name);
    }

    /// A run has ended so: that is on the disk when this is over.
    async fn ended(&self, name: &str, watch: &Arc<Watch>, ended: Result<&Summary, &Failure>) {
        let Some(end) = watch.note_end(ended).await else {
            return;
        };
        let [sign, runs] = [watch, watch].map(Arc::clone);
        self.tellers
            .tell(name, About::Sign, async move { sign.ping_end(end).await });
        self.tellers
            .tell(name, About::Runs, async move { runs.tell_of_runs().await });
    }

    /// Tells how a run ended.
    fn told(&self, name: &str, teller: &Reporter, ended: Result<Summary, Failure>) -> Exit {
        if teller.ended(ended.as_ref()) {
            return ended.map_or_else(|failure| failure.exit, |summary| summary.exit);
        }
        let only_errors = self.manner.json || self.manner.verbosity == Verbosity::Quiet;
        run::tell(Some(name), &teller.stamp(), ended, only_errors)
    }

    /// Tells what a schedule that was killed could not tell any more.
    pub(super) async fn make_up(self: Arc<Self>) {
        let work = Arc::clone(&self);
        let owed = off(move || work.owed()).await.and_then(|owed| owed);
        let plans = match owed {
            Ok(plans) => plans,
            Err(failure) => {
                let told = format!("nobody could be told of earlier runs: {failure}");
                return self.drive.reporter.say(&told);
            }
        };
        for plan in plans {
            let name = plan.name.clone();
            self.tell_of_file(&name);
            if let Some(watch) = self.watch(plan).await {
                self.tellers.tell(
                    &name,
                    About::Runs,
                    async move { watch.tell_of_runs().await },
                );
            }
        }
    }

    /// Pipelines of which somebody has to be told.
    fn owed(&self) -> Result<Vec<Plan>, Failure> {
        let state = State::open(&Disk::system(), &self.root);
        let owed = state.and_then(|state| state.alerts_owed());
        let owed = owed.map_err(|error| *error.into_failure())?;
        if owed.is_empty() {
            return Ok(Vec::new());
        }
        let paths = project::files(&self.root)?.into_iter();
        let owed = paths.filter(|path| {
            let name = project::stem(path);
            owed.iter().any(|alert| alert.pipeline == name)
        });
        // Those of a broken file are told of it, and of its runs when it can be understood.
        Ok(owed
            .filter_map(|path| rooms::plan(&path, &Overrides::default()).ok())
            .collect())
    }

    /// Who tells those whom a plan names.
    async fn watch(&self, plan: Plan) -> Option<Watch> {
        let drive = Drive {
            reporter: reporter(self.manner, self.logs, Some(&plan.name)),
            ..self.drive.clone()
        };
        let ready = drive.ready(plan, self.connect, &self.root, true, |transport| {
            drive.shared_world(transport, self.root.clone())
        });
        ready.await.ok()?.watch
    }

    /// Who tells those whom a file names, though it may be broken.
    async fn listener(&self, name: &str) -> Option<Watch> {
        let (files, of) = (Arc::clone(&self.files), name.to_owned());
        let plan = off(move || files.listeners(&of)).await.ok().flatten()?;
        self.watch(plan).await
    }

    /// Takes what happens to files to those whom they name.
    pub(super) fn hear(self: &Arc<Self>, fact: &Fact) {
        let (name, how) = match fact {
            Fact::ScheduleBroken {
                pipeline,
                message,
                kept,
            } => {
                let so = if *kept {
                    "what stood in it before stays in force"
                } else {
                    "it does not run until that is corrected"
                };
                let failure = Failure::new(Exit::Invalid, format!("{message}; {so}"))
                    .hint(format!("`gleaner check {pipeline}` shows all mistakes"));
                (pipeline, How::Broken(failure))
            }
            Fact::Scheduled { pipeline, .. } | Fact::ScheduleMended { pipeline } => {
                (pipeline, How::Well)
            }
            _ => return,
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.insert(name.to_string(), how);
        drop(looks);
        self.tell_of_file(name);
    }

    /// Tells how a file is, and what is owed of how it was.
    fn tell_of_file(self: &Arc<Self>, name: &str) {
        let (work, of) = (Arc::clone(self), name.to_owned());
        self.tellers.tell(name, About::File, async move {
            let broken = match work.look(&of) {
                Some(How::Broken(failure)) => Some(Some(failure)),
                Some(How::Well) => Some(None),
                None => None,
            };
            let (root, name) = (work.root.clone(), of.clone());
            // Most never were, and nobody has to be found who hears of them.
            let was_broken = off(move || was_broken(&Disk::system(), &root, &name));
            let is_known = matches!(was_broken.await, Ok(Ok(true)));
            if !matches!(broken, Some(Some(_))) && !is_known {
                return;
            }
            if let Some(watch) = work.listener(&of).await {
                if let Some(how) = broken {
                    watch.note_file(how.as_ref()).await;
                }
                watch.tell_of_file().await;
            }
        });
    }

    /// How a file is now: it may have changed again since somebody wanted to tell of it.
    fn look(&self, name: &str) -> Option<How> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.remove(name)
    }

    /// Waits until all are told; once somebody asks to stop, only a moment longer.
    pub(super) async fn all_told(&self) {
        self.tellers.all_told(&self.drive).await;
    }
}

/// The plan of an order; its file was good when it was read. Messages name it as it stands in the project.
fn plan_of(order: &Order, root: &Path) -> Result<Plan, Failure> {
    let path = order.path.strip_prefix(root).unwrap_or(&order.path);
    match rooms::plan_text(path, &order.text, &Overrides::default()) {
        Ok(plan) => Ok(plan),
        Err(NoPlan::Failure(failure)) => Err(failure),
        Err(NoPlan::Mistakes(mistakes)) => {
            Err(Failure::new(Exit::Invalid, rooms::in_a_line(&mistakes))
                .hint(format!("`gleaner check {}`", order.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::transport::SharedTransport;

    fn stumbles(_: &Plan, _: &Path) -> (SharedTransport, Option<Failure>) {
        panic!("a mistake");
    }

    #[tokio::test]
    async fn a_panic_before_the_run_is_open_is_told_and_stands_in_the_history() {
        let project = tempfile::tempdir().expect("a folder");
        let root = project.path().to_owned();
        let options = Options {
            state: Some(root.join("state")),
            ..Options::default()
        };
        let files = Arc::new(Files::new(root.clone()));
        let drive = Drive::new(reporter(Manner::QUIET, false, None));
        let mut work = Work::new(drive, Manner::QUIET, false, options, files, root.clone());
        work.connect = stumbles;
        let text = "source: { url: \"http://127.0.0.1:9\", limits: none }\nstreams: { items: { get: /x } }\nsink: { csv: out.csv }\n\
                    schedule: { cron: '@daily', on_failure: { command: 'cat > told' } }\n";
        let order = Order {
            name: "items".to_owned(),
            path: root.join("pipelines/items.yaml"),
            text: text.to_owned(),
            at: Clock::system().calendar(),
            times: 1,
            again: false,
            deadline: None,
        };
        let work = Arc::new(work);
        assert_eq!(work.run(order).await, Exit::Failed);
        work.all_told().await;
        let told = std::fs::read_to_string(root.join("told")).expect("somebody was told");
        assert!(told.contains("a mistake of the program"), "{told}");
        let state = State::open(&Disk::system(), &root).expect("a state");
        let runs = state.runs(Some("items")).expect("readable");
        assert_eq!(runs.len(), 1, "{runs:#?}");
        assert_eq!(runs[0].exit, Some(1));
    }
}

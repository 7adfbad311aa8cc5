//! Which streams of a run are parents of which, and what is known of their children.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::feed::Feed;
use super::record;
use crate::plan::path::Path;
use crate::plan::{Plan, StreamPlan};

/// The streams of a run as parents and children; in the order of the plan.
#[derive(Debug)]
pub(in crate::harvest) struct Family {
    members: Vec<Member>,
    news: Arc<watch::Sender<()>>,
}

#[derive(Debug)]
struct Member {
    name: String,
    /// Whether it runs: because it was asked for, or because a child of it was.
    runs: bool,
    /// Whether it was asked for itself.
    chosen: bool,
    /// For those that have children in this run.
    feed: Option<Arc<Feed>>,
    /// Where the parts of its key are in its records.
    key: Vec<Path>,
    parents: Vec<usize>,
    /// Combinations of `for`, by their places in canonical order, that repeat an earlier one.
    repeats: OnceLock<Arc<[u64]>>,
    /// Whether all went well with it, once it has ended.
    ended: OnceLock<bool>,
}

impl Family {
    /// Of a plan, where these streams are asked for; none means all.
    pub(in crate::harvest) fn new(plan: &Plan, chosen: &[String]) -> Self {
        let news = Arc::new(watch::Sender::new(()));
        let at = |name: &str| plan.streams.iter().position(|stream| stream.name == name);
        let is_chosen = |stream: &StreamPlan| chosen.is_empty() || chosen.contains(&stream.name);
        let mut members: Vec<Member> = plan
            .streams
            .iter()
            .map(|stream| Member {
                name: stream.name.clone(),
                runs: is_chosen(stream),
                chosen: is_chosen(stream),
                feed: None,
                key: record::key(stream),
                parents: stream.parents().filter_map(at).collect(),
                repeats: OnceLock::new(),
                ended: OnceLock::new(),
            })
            .collect();
        // Parents of parents too; `check` has seen to it that there is no loop.
        let mut due: Vec<usize> = (0..members.len()).filter(|at| members[*at].runs).collect();
        while let Some(child) = due.pop() {
            for parent in members[child].parents.clone() {
                let member = &mut members[parent];
                if member.feed.is_none() {
                    member.feed = Some(Arc::new(Feed::new(Arc::clone(&news))));
                }
                if !member.runs {
                    member.runs = true;
                    due.push(parent);
                }
            }
        }
        Self { members, news }
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Whether a stream runs: it was asked for, or one that runs over its records.
    pub(in crate::harvest) fn runs(&self, name: &str) -> bool {
        self.member(name).is_some_and(|member| member.runs)
    }

    /// Whether a stream was asked for itself, and not only for its children.
    pub(in crate::harvest) fn is_chosen(&self, name: &str) -> bool {
        self.member(name).is_some_and(|member| member.chosen)
    }

    /// What the children of a stream see of it; none without children.
    pub(in crate::harvest) fn feed(&self, name: &str) -> Option<&Arc<Feed>> {
        self.member(name)?.feed.as_ref()
    }

    /// Where the parts of a stream's key are in its records.
    pub(in crate::harvest) fn key(&self, name: &str) -> &[Path] {
        self.member(name).map_or(&[], |member| &member.key)
    }

    /// The parents of a stream: names, and what it sees of them.
    pub(in crate::harvest) fn parents(
        &self,
        name: &str,
    ) -> impl Iterator<Item = (&str, &Arc<Feed>)> {
        let parents = self.member(name).map_or(&[][..], |m| &m.parents);
        parents.iter().filter_map(|at| {
            let parent = self.members.get(*at)?;
            Some((parent.name.as_str(), parent.feed.as_ref()?))
        })
    }

    /// Streams that run over records of `name`, however many streams lie between.
    pub(in crate::harvest) fn descendants(&self, name: &str) -> Vec<&str> {
        let Some(at) = self.members.iter().position(|member| member.name == name) else {
            return Vec::new();
        };
        let mut found = vec![at];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            for (child, member) in self.members.iter().enumerate() {
                if member.runs && member.parents.contains(&parent) && !found.contains(&child) {
                    found.push(child);
                }
            }
            next += 1;
        }
        let names = found.iter().skip(1);
        names.map(|at| self.members[*at].name.as_str()).collect()
    }

    /// Names of the streams that run, parents before their children, else in the order of the file.
    pub(in crate::harvest) fn in_turn(&self) -> Vec<usize> {
        let mut order = Vec::new();
        while let Some(next) = (0..self.members.len()).find(|at| {
            let member = &self.members[*at];
            let is_ready = member.parents.iter().all(|parent| order.contains(parent));
            member.runs && is_ready && !order.contains(at)
        }) {
            order.push(next);
        }
        order
    }

    /// Which combinations of `for` repeat an earlier one, once that is known.
    pub(in crate::harvest) fn repeats(&self, name: &str) -> Option<Arc<[u64]>> {
        self.member(name)?.repeats.get().cloned()
    }

    /// It is known now.
    pub(in crate::harvest) fn set_repeats(&self, name: &str, repeats: Vec<u64>) {
        if let Some(member) = self.member(name) {
            // A stream is walked once in a run.
            let _ = member.repeats.set(repeats.into());
        }
    }

    /// A stream has ended, well or not.
    pub(in crate::harvest) fn end(&self, name: &str, well: bool) {
        if let Some(member) = self.member(name) {
            // A stream ends once.
            let _ = member.ended.set(well);
        }
        self.news.send_replace(());
    }

    /// Waits until all that run over records of `name` have ended; whether all went well.
    pub(in crate::harvest) async fn ended_well(&self, name: &str) -> bool {
        let mut news = self.news();
        loop {
            news.borrow_and_update();
            let below = self.descendants(name).into_iter();
            let ends = below.map(|child| self.member(child)?.ended.get().copied());
            match ends.collect::<Option<Vec<bool>>>() {
                Some(ends) => return ends.into_iter().all(|well| well),
                // The sender lives as long as the run.
                None => drop(news.changed().await),
            }
        }
    }

    /// Changes whenever something happens to any parent.
    pub(in crate::harvest) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

//! `--record` and `--replay`: what a recording begins with, and the transport that is put over the
//! network, or in its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::publish::keep;
use super::run::{Beginning, Run};
use super::secrets::{SHORTEST_SCRUBBED, Secrets};
use super::{Options, World};
use crate::disk::{Access, DiskError, Open};
use crate::failure::{Exit, Failure};
use crate::fetch::body::PAGE_CAP;
use crate::fetch::credentials::Credentials;
use crate::fetch::record::{Recorder, Recording};
use crate::fetch::replay::{Cassette, Replay};
use crate::fetch::tape::{Cleaner, Head, HeadCursor, Scrub, VERSION};
use crate::plan::auth::{AuthPlan, TokenSource};
use crate::plan::{Plan, StreamPlan};

/// Whether exchanges are written down, or come from a recording.
#[derive(Debug, Clone, Default)]
pub enum Tape {
    /// Neither.
    #[default]
    Off,
    /// Written to this file, which must not be there.
    Record(PathBuf),
    /// Read from this recording; nothing is sent.
    Replay(Arc<Cassette>),
}

impl Tape {
    /// Whether exchanges come from a recording.
    pub fn is_replay(&self) -> bool {
        self.played().is_some()
    }

    /// The recording they come from.
    pub(super) fn played(&self) -> Option<&Arc<Cassette>> {
        match self {
            Self::Replay(cassette) => Some(cassette),
            Self::Off | Self::Record(_) => None,
        }
    }

    /// How a replay begins: as what it replays did.
    pub(super) fn beginning(&self) -> Option<Beginning> {
        let head = &self.played()?.head;
        let seed = u64::from_str_radix(&head.seed, 16).unwrap_or_default();
        Some(Beginning::of(head.started, seed))
    }
}

/// A recording is whole, or it cannot be replayed.
pub(super) fn refuse_continued(options: &Options, run: &str) -> Result<(), Box<Failure>> {
    match &options.tape {
        Tape::Record(_) => Err(Box::new(
            Failure::usage(format!(
                "run {run} is not finished, and a recording cannot begin in the middle"
            ))
            .hint("finish it first, without `--record`, or discard it with `--fresh`"),
        )),
        Tape::Off | Tape::Replay(_) => Ok(()),
    }
}

/// Takes all that is secret in a run out of what is written down.
pub(super) fn cleaner(secrets: &Arc<Secrets>, credentials: &Credentials) -> Cleaner {
    let known = Arc::clone(secrets);
    let scrub: Scrub = Arc::new(move |text| known.scrub(text));
    Cleaner::new(scrub, credentials.clone())
}

/// Puts a recorder over the network of `world`, or a recording in its place.
pub(super) fn wind(
    plan: &Plan,
    world: &mut World,
    options: &Options,
    beginning: &Beginning,
    secrets: &Arc<Secrets>,
    credentials: &Credentials,
) -> Result<Option<Arc<Recording>>, Box<Failure>> {
    let cleaner = cleaner(secrets, credentials);
    let keeps = |stream: &StreamPlan| stream.keeps_raw && options.leaves_trace();
    let written = match &options.tape {
        Tape::Record(_) => Some(("a recording", "`--record`")),
        _ if plan.streams.iter().any(keeps) => Some(("what `keep: raw` keeps", "it")),
        Tape::Off | Tape::Replay(_) => None,
    };
    let too_short: Vec<&str> = secrets.of_length(1..SHORTEST_SCRUBBED).collect();
    if let (Some((what, way)), false) = (written, too_short.is_empty()) {
        return Err(Box::new(
            Failure::usage(format!(
                "{} has fewer than four characters, so it cannot be kept out of {what}",
                too_short.join(", ")
            ))
            .hint(format!("run without {way}, or with a longer secret")),
        ));
    }
    match &options.tape {
        Tape::Off => Ok(None),
        Tape::Replay(cassette) => {
            let replay = Replay::new(Arc::clone(cassette), cleaner, world.clock);
            world.transport = Arc::new(replay);
            Ok(None)
        }
        Tape::Record(path) => {
            let head = head(plan, world, options, beginning, secrets)?;
            let recording = begin(plan, world, path, &head)?;
            world.transport = Arc::new(Recorder::new(
                Arc::clone(&world.transport),
                Arc::clone(&recording),
                cleaner,
                world.clock,
            ));
            Ok(Some(recording))
        }
    }
}

fn begin(
    plan: &Plan,
    world: &World,
    path: &Path,
    head: &Head,
) -> Result<Arc<Recording>, Box<Failure>> {
    let file = world.disk.open(path, Open::New(Access::Private));
    let file = file.map_err(|error| {
        let mut failure = *unwritten(&error);
        failure.hint = Some(
            "a recording is a new file: name one that is not there, in a folder that is".to_owned(),
        );
        Box::new(failure)
    })?;
    let caps = plan
        .streams
        .iter()
        .filter_map(|stream| stream.format.max_body);
    let cap = caps.max().map_or(PAGE_CAP, |cap| cap.max(PAGE_CAP));
    let recording = Recording::begin(file, head, cap).map_err(|error| unwritten(&error))?;
    Ok(Arc::new(recording))
}

fn unwritten(error: &DiskError) -> Box<Failure> {
    Box::new(Failure::new(
        Exit::Disk,
        format!("cannot write the recording: {error}"),
    ))
}

fn head(
    plan: &Plan,
    world: &World,
    options: &Options,
    beginning: &Beginning,
    secrets: &Secrets,
) -> Result<Head, Box<Failure>> {
    let env = secrets.env();
    let cursors = keep::cursors(plan, world, options)?;
    let cursors = cursors.into_iter().map(|cursor| HeadCursor {
        stream: cursor.stream,
        partition: secrets.scrub(&cursor.partition),
        field: cursor.field,
        value: secrets.scrub(&cursor.value),
    });
    Ok(Head {
        cassette: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        pipeline: plan.name.clone(),
        started: beginning.started,
        seed: format!("{:016x}", beginning.seed),
        secrets: secrets.set().map(str::to_owned).collect(),
        env: env
            .map(|(name, value)| (name.to_owned(), secrets.scrub(value)))
            .collect(),
        cursors: cursors.collect(),
    })
}

impl Run {
    /// Whether tokens are renewed that a server refuses. A replay has none, and sends again what was
    /// sent again then.
    pub(super) fn renews(&self) -> bool {
        self.tokens.is_some()
            || self.options.tape.is_replay()
                && matches!(self.plan.source.auth, AuthPlan::Token(_))
                && !self.credentials.is_empty()
    }

    /// Whether a replay goes on after so many refused tokens. One that another process had may have
    /// been refused before one that was new.
    pub(super) fn replays_renewal(&self, refused: u32, most: u32) -> bool {
        let AuthPlan::Token(plan) = &self.plan.source.auth else {
            return false;
        };
        let most = match plan.from {
            TokenSource::RefreshToken { .. } => most,
            _ => 1,
        };
        self.options.tape.is_replay() && refused < most
    }

    /// Removes a recording that holds nothing, so that the next run can make it.
    pub(super) fn drop_recording(&self) {
        if let Tape::Record(path) = &self.options.tape {
            // What stays is told by the next run.
            let _ = self.world.disk.remove_file(path);
        }
    }

    /// Ends the recording, if one is made.
    pub(super) async fn end_recording(&self) -> Result<(), Box<Failure>> {
        match &self.recording {
            Some(recording) => recording.end().await.map_err(|error| unwritten(&error)),
            None => Ok(()),
        }
    }
}

//! The APIs of the survey: every pipeline in `tests/apis/` (or, shipped, in `pipelines/`) is harvested
//! from a stand-in that plays the documented paging, limits and errors, in stopped time.
//!
//! `tests/apis/README.md` says how to add one. `PLAY=name` runs one alone, `TRY=1` also those that wait
//! for keys of the language.

mod coverage;
mod deal;
mod examples;
mod leaf;
mod packages;
mod play;
mod show;
mod stage;
mod table;
mod wire;
mod words;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use gleaner::failure::Exit;

use self::play::{Pair, Proof};
use self::show::{Cast, declares, perform, plan, without};
use self::stage::Upset;
pub(crate) use self::words::claims;

/// What can be read; `every_play_can_be_read` tells of the rest.
static PAIRS: LazyLock<Vec<Pair>> =
    LazyLock::new(|| play::pairs().into_iter().filter_map(Result::ok).collect());

/// The pairs that are wanted.
fn casts() -> Vec<Cast> {
    let one = std::env::var("PLAY").ok();
    PAIRS
        .iter()
        .filter(|pair| one.as_ref().is_none_or(|one| *one == pair.name))
        .map(Cast::new)
        .collect()
}

/// Does something with every pair, two at a time, and tells all that is wrong.
fn each(what: impl Fn(Cast) -> Result<(), String> + Sync) {
    let casts = casts();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(cast) = casts.get(next.fetch_add(1, Ordering::Relaxed)) {
            // A mistake in one play must not hide those of the others.
            let done = catch_unwind(AssertUnwindSafe(|| what(*cast))).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>();
                Err(text.map_or("a panic", String::as_str).to_owned())
            });
            if let Err(why) = done {
                wrong.push(format!("{}: {why}", cast.pair.name));
            }
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut wrong = work();
        wrong.extend(other.join().expect("a worker"));
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Whether a pair waits for keys that the language has not: then it is skipped, and said so.
#[expect(clippy::print_stdout, reason = "what is not covered is said, loudly")]
fn waits(cast: Cast) -> bool {
    let needs = &cast.pair.play.needs;
    if std::env::var_os("TRY").is_some() {
        return false;
    }
    if !needs.is_empty() {
        println!(
            "SKIPPED, not covered: {} waits for {}",
            cast.pair.name,
            needs.join(", ")
        );
    }
    !needs.is_empty()
}

/// Runs a pipeline against its play and judges what came of it; gives the number of requests.
fn judged(cast: Cast, yaml: &str, upset: Upset) -> Result<usize, String> {
    let plan = plan(&cast.pair.name, yaml)?;
    let limits = plan.source.limits.clone();
    let contact = plan
        .source
        .contact
        .as_ref()
        .filter(|contact| contact.is_literal());
    let contact = contact.map(|contact| contact.written().to_owned());
    let show = perform(cast, plan, upset)?;
    show.judge(cast, &limits, contact.as_deref())?;
    let upsets = usize::from(upset.throttled.is_some()) + usize::from(upset.failed.is_some());
    if show.stage.upsets() != upsets {
        return Err(format!(
            "{} of {upsets} faults befell the run",
            show.stage.upsets()
        ));
    }
    if upsets == 0 {
        show.swift(&cast.pair.play)?;
    }
    Ok(show.api.audit().requests())
}

/// Alone, and then with a refusal at a limit and an outage of a moment in the middle of the paging.
fn harvests(cast: Cast, yaml: &str, deaf: Option<&'static str>) -> Result<(), String> {
    let calm = Upset {
        deaf,
        ..Upset::default()
    };
    let requests = judged(cast, yaml, calm)?;
    let middle = (requests as u64).div_ceil(2);
    let upset = Upset {
        throttled: Some(middle),
        failed: Some(middle + 1),
        ..calm
    };
    judged(cast, yaml, upset)
        .map(|_| ())
        .map_err(|why| format!("with faults at {middle} of {requests}: {why}"))
}

/// The error that the play has ends the run, and its words are told.
fn tells(cast: Cast, yaml: &str) -> Result<(), String> {
    let Some(mistake) = &cast.pair.play.mistake else {
        return Ok(());
    };
    let upset = Upset {
        mistaken: true,
        ..Upset::default()
    };
    let show = perform(cast, plan(&cast.pair.name, yaml)?, upset)?;
    if show.summary.exit == Exit::Complete {
        return Err("the run is complete in spite of the error".to_owned());
    }
    let requests = show.api.audit().requests();
    if mistake.requests.is_some_and(|most| requests > most) {
        return Err(format!("asked {requests} times, though that does not help"));
    }
    let told = show.failures();
    if told.contains(&mistake.says) {
        Ok(())
    } else {
        Err(format!("{:?} is not in {told}", mistake.says))
    }
}

#[test]
fn every_play_can_be_read() {
    let wrong: Vec<String> = play::pairs().into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_waits_for_a_key_does_not_pass_check() {
    each(|cast| {
        let needs = &cast.pair.play.needs;
        if needs.is_empty() || plan(&cast.pair.name, &cast.pair.pipeline).is_err() {
            return Ok(());
        }
        Err(format!(
            "`needs` says {}, and the pipeline checks: take what is there out of `needs`",
            needs.join(", ")
        ))
    });
}

#[test]
fn every_pipeline_harvests_its_play() {
    each(|cast| {
        if waits(cast) {
            return Ok(());
        }
        let plan = plan(&cast.pair.name, &cast.pair.pipeline)?;
        declares(&cast.pair.play, &plan.source.limits)?;
        harvests(cast, &cast.pair.pipeline, None)
    });
}

#[test]
fn an_error_that_the_api_documents_is_told() {
    each(|cast| {
        if waits(cast) {
            Ok(())
        } else {
            tells(cast, &cast.pair.pipeline)
        }
    });
}

#[test]
fn a_pipeline_that_lacks_what_it_needs_fails() {
    each(|cast| {
        if waits(cast) {
            return Ok(());
        }
        let yaml = &cast.pair.pipeline;
        let mut proofs: BTreeMap<String, (String, Option<&str>)> = BTreeMap::new();
        for proof in cast.pair.play.kinds.values().flatten() {
            let what = proof.words();
            let (changed, deaf) = match proof {
                Proof::Without(key) => (without(yaml, key), None),
                Proof::Deaf { deaf } => (yaml.clone(), Some(deaf.as_str())),
                Proof::Swap { swap, by } => (yaml.replace(swap.as_str(), by), None),
            };
            if changed == *yaml && deaf.is_none() {
                return Err(format!("{what} it is the same"));
            }
            proofs.insert(what, (changed, deaf));
        }
        for (what, (changed, deaf)) in proofs {
            // It must be the run that fails: a file that does not pass `check` proves nothing.
            plan(&cast.pair.name, &changed).map_err(|why| format!("{what}: {why}"))?;
            if harvests(cast, &changed, deaf)
                .and_then(|()| tells(cast, &changed))
                .is_ok()
            {
                return Err(format!("{what} it passes all the same"));
            }
        }
        Ok(())
    });
}

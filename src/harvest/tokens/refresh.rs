//! Refresh tokens (RFC 6749, section 6), which a server may replace with each use (section 10.4).
//!
//! Under the token's lock: what another process has had is used as long as it holds; else the latest refresh
//! token is used up, and what comes in its place is on the disk before anybody uses anything.

use std::time::Duration;

use super::Token;
use crate::failure::{Exit, Failure};
use crate::fetch::grant::Grant;
use crate::harvest::stream::Stream;
use crate::plan::auth::TokenPlan;
use crate::store::StoreError;
use crate::store::locks::{Lock, LockError};
use crate::store::tokens::{KeptToken, TokenFile, TokenProblem};

/// How often it is looked whether another process is done with the token.
const POLL: Duration = Duration::from_millis(50);

const UNGRANTED: &str = "the refresh token has ended, was revoked, or was used before: authorize anew, and set the secret that `token` names to the new one";

impl Stream {
    /// A token for the latest refresh token.
    pub(in crate::harvest) async fn refresh(
        &self,
        grant: &Grant,
        first: &str,
        file: &TokenFile,
        plan: &TokenPlan,
    ) -> Result<Token, Box<Failure>> {
        let run = &self.run;
        let clock = run.world.clock;
        let lock = self.locked(file).await?;
        let at_hand = file.clone();
        let kept = blocking(move || at_hand.load()).await?;
        let mut kept = kept.unwrap_or_else(|| KeptToken::first(first));
        run.secrets.learn("refresh token", &kept.refresh);
        if let Some(token) = self.still_good(&kept, plan)? {
            return Ok(token);
        }
        // A disk that takes nothing is found out before the token is used up.
        let (at_hand, now) = (file.clone(), kept.clone());
        blocking(move || at_hand.save(&now).map_err(TokenProblem::from)).await?;
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", kept.refresh.as_str()),
        ];
        let request = grant.request(&form);
        let (granted, had) = self.granted(&request, grant, plan, UNGRANTED).await?;
        if let Some(next) = granted.refresh {
            run.secrets.learn("refresh token", &next);
            kept.refresh = next;
        }
        run.secrets.learn("access token", &granted.access);
        kept.access = Some(granted.access.clone());
        let ends = granted.lifetime.and_then(|life| had.checked_add(life));
        kept.until = ends.map(|at| clock.calendar_at(at));
        let at_hand = file.clone();
        blocking(move || {
            let saved = at_hand.save(&kept).map_err(TokenProblem::from);
            drop(lock);
            saved
        })
        .await?;
        self.token(plan, granted.access, had, granted.lifetime)
    }

    /// What another process, or an earlier run, has had, if it still holds and no server refused it.
    fn still_good(
        &self,
        kept: &KeptToken,
        plan: &TokenPlan,
    ) -> Result<Option<Token>, Box<Failure>> {
        let run = &self.run;
        let Some(access) = &kept.access else {
            return Ok(None);
        };
        let was_refused = |tokens: &super::Tokens| tokens.was_refused(access);
        if run.tokens.as_ref().is_some_and(was_refused) {
            return Ok(None);
        }
        let clock = run.world.clock;
        let left = match kept.until {
            None => None,
            Some(until) => {
                let left = until.duration_since(clock.calendar());
                match Duration::try_from(left) {
                    Ok(left) if left > SHORT => Some(left),
                    _ => return Ok(None),
                }
            }
        };
        let token = self.token(plan, access.clone(), clock.now(), left)?;
        Ok(Some(token.found()))
    }

    /// The token's lock, once nobody else has it.
    async fn locked(&self, file: &TokenFile) -> Result<Lock, Box<Failure>> {
        let run = &self.run;
        let clock = run.world.clock;
        let patience = clock.now() + run.plan.source.retry.page_deadline;
        loop {
            let (at_hand, now) = (file.clone(), clock.calendar());
            let lock = tokio::task::spawn_blocking(move || at_hand.lock(now)).await;
            match lock {
                Ok(Ok(lock)) => return Ok(lock),
                Ok(Err(LockError::Held { .. })) if clock.now() < patience => {
                    let later = clock.sleep_until(clock.now() + POLL);
                    run.until_stopped(later).await?;
                }
                Ok(Err(problem)) => return Err(problem.into_failure()),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }
}

/// A token of another process that holds for less than this is not worth the risk.
const SHORT: Duration = Duration::from_secs(10);

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TokenProblem> + Send + 'static,
) -> Result<T, Box<Failure>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(unkept),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn unkept(problem: TokenProblem) -> Box<Failure> {
    match problem {
        TokenProblem::Disk(error) => {
            let mut failure = StoreError::Disk(error).into_failure();
            failure.message = format!("auth: the refresh token cannot be kept: {}", failure.message);
            failure
        }
        damaged @ TokenProblem::Damaged(_) => Box::new(Failure {
            exit: Exit::Failed,
            message: format!("auth: {damaged}"),
            causes: Vec::new(),
            hint: Some(
                "authorize anew, set the secret that `token` names to the new refresh token, and remove the file"
                    .to_owned(),
            ),
        }),
    }
}

//! `now`: one round more, in a few seconds. It is asked for by an annotation like any other, so the webhook reviews it and the record holds it; the agent serves it
//! as a slot, with the guards and the locks of each.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use kube::Client;
use policy::consent::Consent;
use policy::record::OptIn;
use policy::settings::Key;
use runtime::client::CallError;
use runtime::clock::{Clock, SystemClock};

use crate::args::Target;
use crate::change::Change;
use crate::make::make;
use crate::round::{Seen, obstacle, seen};
use crate::{apply, hint};

/// From the request to its slot: by then the agent has to know of it, also where its clock is a little ahead of the API server's.
const LEAD: Duration = Duration::from_secs(10);

/// How often the record is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long the record of an opt-in may take to be there.
const APPEARS: Duration = Duration::from_secs(5);

/// Asks for a round, waits for it, and says in a line what came of it.
///
/// # Errors
/// When none can be asked for, or none was made within `timeout` after its slot, or what came of it can't be seen.
pub async fn now(
    client: &Client,
    target: &Target,
    namespace: &str,
    timeout: Duration,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let (before, date) = record(client, target, namespace).await?;
    // By a clock that is ahead of the cluster's the round would come when nobody waits for it any more.
    let time = date.unwrap_or_else(|| SystemClock.wall());
    let withdraw = Change::not_now(namespace).command(target);
    if let Some(obstacle) = obstacle(&before, time, &withdraw) {
        anyhow::bail!("no round can be asked for in namespace {namespace}: {obstacle}");
    }
    let slot = slot(time);
    make(client, target, &Change::now(namespace, slot), out).await?;
    let mut begun = false;
    let waiting = wait(client, namespace, &before, slot, &mut begun);
    match tokio::time::timeout(LEAD + timeout, waiting).await {
        Ok(Ok(Seen::Skipped(instead))) => {
            anyhow::bail!("the round of {slot} in namespace {namespace} was skipped: {instead}")
        }
        Ok(Ok(Seen::Ended(told))) => Ok(writeln!(out, "{told}")?),
        Ok(Err(error)) => Err(anyhow::Error::new(error).context(format!(
            "failed to see what became of the round of {slot} in namespace {namespace}; {withdraw} withdraws it, if it has not been made"
        ))),
        _ if begun => anyhow::bail!(
            "the round of {slot} in namespace {namespace} was made, but its end was not seen within {} s; {} shows it later",
            timeout.as_secs(),
            hint::chaos(target, &["status", "-n", namespace])
        ),
        _ => anyhow::bail!(
            "no round was made at {slot} in namespace {namespace}. That is so where nothing of it is killed ({} says why), while no agent leads, and less than the \
             platform's shortest interval after the last round; where a CronJob makes the rounds, wait longer, by --timeout. It may still come, unless it is \
             withdrawn: {withdraw}",
            hint::chaos(target, &["explain", namespace])
        ),
    }
}

/// The slot to ask for at `now`: a whole second, for people to read.
fn slot(now: Timestamp) -> Timestamp {
    let late = now.checked_add(LEAD).unwrap_or(now);
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    late.round(up).unwrap_or(late)
}

/// The record of a namespace that opted in, if only a moment ago, and when that was by the API server's clock.
async fn record(
    client: &Client,
    target: &Target,
    namespace: &str,
) -> anyhow::Result<(OptIn, Option<Timestamp>)> {
    let first = apply::record(client, namespace).await;
    let is_missing = |error: &CallError| error.code() == Some(404);
    let answer = match first {
        Err(error) if is_missing(&error) => {
            anyhow::ensure!(
                error.status().is_some_and(|status| status.reason == "NotFound"),
                "failed to read the record of namespace {namespace}: Pure Chaos isn't installed in this cluster"
            );
            may_appear(client, target, namespace).await?;
            let appears = async {
                loop {
                    tokio::time::sleep(LOOK).await;
                    match apply::record(client, namespace).await {
                        Err(error) if is_missing(&error) => {}
                        answer => return answer,
                    }
                }
            };
            tokio::time::timeout(APPEARS, appears).await.map_err(|_| {
                anyhow::anyhow!(
                    "namespace {namespace} opted in, but has no record: Pure Chaos's webhook makes that, so see {}",
                    hint::kubectl(target, &["-n", "pure-chaos", "get", "pods"])
                )
            })?
        }
        answer => answer,
    };
    answer.map_err(|error| {
        let advice = match error.code() {
            Some(403) => "; who may view the namespace may read it",
            _ => "",
        };
        anyhow::Error::new(error)
            .context(format!("failed to read the record of namespace {namespace}{advice}"))
    })
}

/// Whether the record of a namespace may still come; else why there is none.
async fn may_appear(client: &Client, target: &Target, namespace: &str) -> anyhow::Result<()> {
    let annotations = match apply::annotations(client, namespace).await {
        Ok(annotations) => annotations,
        Err(error) if error.code() == Some(404) => anyhow::bail!("there is no namespace {namespace}"),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("failed to read namespace {namespace}, which has no record"));
        }
    };
    let on = |more: &[&str]| hint::chaos(target, &[&["on", namespace], more].concat());
    anyhow::ensure!(
        Consent::parse(&annotations) == Consent::Yes,
        "namespace {namespace} has not opted in: {}",
        on(&[])
    );
    let expires = annotations.get(&Key::Expires.annotation()).and_then(|text| text.parse().ok());
    if let Some(expired) = expires.filter(|expires: &Timestamp| *expires <= SystemClock.wall()) {
        anyhow::bail!(
            "the opt-in of namespace {namespace} expired at {expired}: {}",
            on(&["--expires", "INSTANT"])
        );
    }
    Ok(())
}

/// Waits until a record says what became of the round of a slot.
async fn wait(
    client: &Client,
    namespace: &str,
    before: &OptIn,
    slot: Timestamp,
    begun: &mut bool,
) -> Result<Seen, CallError> {
    loop {
        match apply::record(client, namespace).await {
            Ok((record, _)) => match seen(before, &record, slot) {
                Seen::Nothing => {}
                Seen::Begun => *begun = true,
                over => return Ok(over),
            },
            // An API server that is busy or away for a moment is no reason to stop waiting.
            Err(error) if error.code().is_none_or(|code| code == 429 || code >= 500) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_a_whole_second_and_far_enough_ahead() {
        for (now, expected) in [
            ("2026-11-23T12:00:00Z", "2026-11-23T12:00:10Z"),
            ("2026-11-23T12:00:00.001Z", "2026-11-23T12:00:11Z"),
        ] {
            assert_eq!(slot(now.parse().unwrap()).to_string(), expected);
        }
    }
}

//! `now`: asks for one more round, in a few seconds.
//!
//! The plugin asks by an annotation, as for any setting. So the webhook reviews the request and the
//! record holds it. The agent serves the round as a slot, with the same guards and locks as every
//! slot.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use kube::Client;
use policy::platform::PlatformPolicy;
use policy::record::OptIn;
use runtime::client::CallError;
use runtime::clock::{Clock, SystemClock};

use crate::absence::{Absence, installed};
use crate::apply_change::make;
use crate::args::Target;
use crate::change::Change;
use crate::round::{Seen, longest_interval, obstacle, seen, too_soon};
use crate::{apply, suggest};

/// The time from the request to its slot. Within this time the agent must learn of the slot, even
/// if its clock is a little ahead of the API server's.
const LEAD: Duration = Duration::from_secs(10);

/// How often the plugin reads the record.
const LOOK: Duration = Duration::from_millis(500);

/// How long the plugin waits for the record of a new opt-in.
const APPEARS: Duration = Duration::from_secs(5);

/// Asks for a round, waits until the round has ended, and prints the result.
///
/// # Errors
/// Returns an error if no round can be asked for, if the round is skipped or not made within
/// `timeout` after its slot, or if its result cannot be seen.
pub async fn now(
    client: &Client,
    target: &Target,
    namespace: &str,
    timeout: Duration,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let (before, date) = record(client, target, namespace).await?;
    // Use the API server's time. If the local clock were ahead, the plugin would stop waiting
    // before the round comes.
    let time = date.unwrap_or_else(|| SystemClock.wall());
    let withdraw = Change::not_now(namespace).command(target);
    if let Some(obstacle) = obstacle(&before, time, &withdraw) {
        anyhow::bail!("you can't ask for a round in namespace {namespace}: {obstacle}");
    }
    let slot = slot(time);
    if let Some(told) = distance(client, &before, slot).await.map_err(|too_soon| {
        anyhow::anyhow!("you can't ask for a round in namespace {namespace}: {too_soon}")
    })? {
        writeln!(out, "{told}")?;
    }
    make(client, target, &Change::now(namespace, slot), out).await?;
    let mut begun = false;
    let waiting = wait(client, namespace, &before, slot, &mut begun);
    match tokio::time::timeout(LEAD + timeout, waiting).await {
        Ok(Ok(Seen::Skipped(instead))) => {
            anyhow::bail!("the round of {slot} in namespace {namespace} was skipped: {instead}")
        }
        Ok(Ok(Seen::Ended(told))) => Ok(writeln!(out, "{told}")?),
        Ok(Err(error)) => Err(anyhow::Error::new(error).context(format!(
            "failed to read the result of the round of {slot} in namespace {namespace}; to withdraw the \
             round if it has not begun, run: {withdraw}"
        ))),
        _ if begun => anyhow::bail!(
            "the round of {slot} in namespace {namespace} began, but did not end within {} s; to see its \
             result later, run: {}",
            timeout.as_secs(),
            suggest::chaos(target, &["status", "-n", namespace])
        ),
        _ => anyhow::bail!(
            "no round was made at {slot} in namespace {namespace}. Possible causes are: nothing may be \
             killed there ({} says why), no agent leads, or the last round was less than the platform's \
             shortest interval before. If a CronJob makes the rounds, set a longer --timeout. The round may \
             still come; to withdraw it, run: {withdraw}",
            suggest::chaos(target, &["explain", namespace])
        ),
    }
}

/// Checks whether a round at `slot` would come too soon after the last one. If the user may not
/// read the platform's policy, returns a warning that the round may come too soon.
///
/// # Errors
/// Returns a sentence if the round would come too soon, because the agent would skip it.
async fn distance(client: &Client, before: &OptIn, slot: Timestamp) -> Result<Option<String>, String> {
    let longest = longest_interval(before);
    // Few users may read the policy, so read it only where the answer matters.
    if too_soon(before, slot, longest).is_none() {
        return Ok(None);
    }
    match installed(client).await {
        Some(policy) => match too_soon(before, slot, policy.ceilings.shortest_interval) {
            Some(too_soon) => Err(too_soon.refused(slot)),
            None => Ok(None),
        },
        None => {
            let default = PlatformPolicy::built_in().ceilings.shortest_interval;
            Ok(too_soon(before, slot, default.min(longest)).map(|too_soon| too_soon.supposed()))
        }
    }
}

/// The slot to ask for at `now`. It is a whole second, because people read it.
fn slot(now: Timestamp) -> Timestamp {
    let late = now.checked_add(LEAD).unwrap_or(now);
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    late.round(up).unwrap_or(late)
}

/// Reads the record of a namespace, and the time of the answer by the API server's clock. Waits for
/// the record if the namespace opted in a moment ago.
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
            match Absence::of(client, namespace).await {
                Ok(Absence::Unwritten) => {}
                Ok(absence) => anyhow::bail!(absence.told(target, namespace)),
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("failed to read namespace {namespace}, which has no record")
                    });
                }
            }
            let appears = async {
                loop {
                    tokio::time::sleep(LOOK).await;
                    match apply::record(client, namespace).await {
                        Err(error) if is_missing(&error) => {}
                        answer => return answer,
                    }
                }
            };
            tokio::time::timeout(APPEARS, appears)
                .await
                .map_err(|_| anyhow::anyhow!(Absence::Unwritten.told(target, namespace)))?
        }
        answer => answer,
    };
    answer.map_err(|error| {
        let advice = match error.code() {
            Some(403) => "; ClusterRole view in the namespace gives you the right to read it",
            _ => "",
        };
        anyhow::Error::new(error)
            .context(format!("failed to read the record of namespace {namespace}{advice}"))
    })
}

/// Waits until the record says what became of the round at `slot`. Sets `begun` when the round
/// begins.
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
            // The API server can be busy or unavailable for a moment. That is no reason to stop
            // waiting.
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

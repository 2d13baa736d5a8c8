//! `now`: one round more, in a few seconds. It is asked for by an annotation like any other, so the webhook reviews it and the record holds it; the agent serves it
//! as a slot, with the guards and the locks of each.

use std::time::Duration;

use anyhow::Context;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use kube::{Api, Client};
use policy::keys::RECORD;
use policy::record::OptIn;
use runtime::client::{CallError, call};

use crate::status::why;

/// From the request to its slot: by then the agent has to know of it, also where this machine's clock is a little behind.
const LEAD: Duration = Duration::from_secs(10);

/// How often the record is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The slot to ask for at `now`: a whole second, for people to read.
#[must_use]
pub fn slot(now: Timestamp) -> Timestamp {
    let late = now.checked_add(LEAD).unwrap_or(now);
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    late.round(up).unwrap_or(late)
}

/// The record of a namespace that opted in.
///
/// # Errors
/// When there is none, or it can't be read.
pub async fn record(client: &Client, namespace: &str) -> anyhow::Result<OptIn> {
    let records: Api<OptIn> = Api::namespaced(client.clone(), namespace);
    call(records.get(RECORD)).await.map_err(|error| match error.code() {
        Some(404) => anyhow::anyhow!("namespace {namespace} has not opted in: kubectl chaos on {namespace}"),
        _ => anyhow::Error::new(error).context(format!("failed to read the record of namespace {namespace}")),
    })
}

/// Waits for the round of that slot, and says in a line what came of it. `before` is the record from before it was asked for.
///
/// # Errors
/// When it was not made within `timeout` after its slot, or the record can't be read any more.
pub async fn outcome(
    client: &Client,
    namespace: &str,
    before: &OptIn,
    slot: Timestamp,
    timeout: Duration,
) -> anyhow::Result<String> {
    let waiting = tokio::time::timeout(LEAD + timeout, async {
        loop {
            match record(client, namespace).await {
                Ok(record) if is_served(&record, slot) => return Ok(told(before, &record)),
                Ok(_) => {}
                // A moment without an answer is no reason to stop waiting.
                Err(error)
                    if error.downcast_ref::<CallError>().is_some_and(|error| error.code().is_none()) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    waiting.await.with_context(|| {
        format!(
            "no round was made at {slot}. That is so where nothing of the namespace is killed (kubectl chaos explain {namespace} says why), while no agent leads, \
             less than the platform's shortest interval after the last round, and where this machine's clock isn't the cluster's"
        )
    })?
}

/// Whether that round has ended. The agent writes the slot down before it kills, then the intent of each kill, and last what came of it together with the
/// next slot.
fn is_served(record: &OptIn, slot: Timestamp) -> bool {
    let Some(status) = &record.status else { return false };
    let instant = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
    instant(&status.last_slot).is_some_and(|last| last >= slot)
        && status.intent.is_none()
        && instant(&status.next_slot).is_none_or(|next| next > slot)
}

fn told(before: &OptIn, after: &OptIn) -> String {
    let kills = |record: &OptIn| record.status.as_ref().and_then(|status| status.kills).unwrap_or(0);
    match kills(after) - kills(before) {
        ..=0 => {
            let state = after.status.as_ref().and_then(|status| status.state.clone()).unwrap_or_default();
            format!("nothing was killed: {state}: {}", why(after))
        }
        1 => "1 Pod was killed".to_owned(),
        more => format!("{more} Pods were killed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn with(status: Value) -> OptIn {
        serde_json::from_value(json!({
            "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn", "metadata": {"name": "chaos", "namespace": "a"},
            "spec": {"namespaceUid": "u", "verdict": "Admitted"}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_slot_is_a_whole_second_and_far_enough_ahead() {
        for (now, expected) in [
            ("2026-11-23T12:00:00Z", "2026-11-23T12:00:10Z"),
            ("2026-11-23T12:00:00.001Z", "2026-11-23T12:00:11Z"),
        ] {
            assert_eq!(slot(now.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn a_round_is_told_by_what_it_did() {
        let at: Timestamp = "2026-11-23T12:00:10Z".parse().unwrap();
        let before = with(json!({"kills": 3, "lastSlot": "2026-11-23T11:55:00Z"}));
        assert!(!is_served(&before, at));
        // Spent, but the kill is only intended; then done, with a second one to come.
        let workload = json!({"kind": "Deployment", "name": "web", "uid": "w"});
        let kill = json!({"pod": "a", "uid": "p", "workload": workload, "time": "2026-11-23T12:00:10Z", "steadyState": 2});
        let spent =
            json!({"kills": 3, "lastSlot": "2026-11-23T12:00:10Z", "nextSlot": "2026-11-23T12:00:10Z"});
        let mut intended = spent.clone();
        intended["nextSlot"] = json!("2026-11-23T12:10:00Z");
        intended["intent"] = json!({"slot": "2026-11-23T12:00:10Z", "mode": "evict", "kill": kill});
        assert!(![spent, intended].map(with).iter().any(|record| is_served(record, at)));
        let killed = with(json!({
            "kills": 4, "lastSlot": "2026-11-23T12:00:10Z", "nextSlot": "2026-11-23T12:10:00Z", "state": "active"
        }));
        assert!(is_served(&killed, at));
        assert_eq!(told(&before, &killed), "1 Pod was killed");
        let refused = with(json!({
            "kills": 3, "lastSlot": "2026-11-23T12:00:10Z", "state": "too_young",
            "conditions": [{"type": "Active", "status": "False", "reason": "NothingKilled", "message": "no Pod could be killed: 2 too_young",
                "lastTransitionTime": "2026-11-23T12:00:10Z"}],
        }));
        assert_eq!(
            told(&before, &refused),
            "nothing was killed: too_young: no Pod could be killed: 2 too_young"
        );
    }
}

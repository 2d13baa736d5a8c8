//! What a record says of a round that was asked for.

use agent::explanation::one_line;
use agent::ledger::STATE_DRY_RUN;
use jiff::Timestamp;
use policy::record::{OptIn, OptInStatus, Verdict};

use crate::status::why;

/// What became of a round.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet.
    Nothing,
    /// It has begun.
    Begun,
    /// It has ended, with what came of it.
    Ended(String),
    /// Another one has been served instead, with what came of that.
    Skipped(String),
}

/// Why no round can be asked for, and what to do; none where one can. Who asks has all that the namespace says admitted, so it must be admitted already.
#[must_use]
pub fn obstacle(record: &OptIn, now: Timestamp, withdraw: &str) -> Option<String> {
    if record.spec.verdict != Verdict::Admitted {
        let reason = record.spec.reason.as_deref().unwrap_or("its opt-in was not admitted");
        return Some(one_line(reason));
    }
    let planned = record.spec.settings.as_ref().and_then(|settings| instant(settings.also_at.as_ref()));
    let planned = planned.filter(|planned| *planned > now)?;
    Some(format!(
        "one is planned for {planned} already, which that would replace; to withdraw it: {withdraw}"
    ))
}

/// What a record says of the round of a slot. `before` is the record from before it was asked for.
///
/// The agent writes the slot down before it kills, then the intent of each kill, and last what came of it together with the next slot.
#[must_use]
pub fn seen(before: &OptIn, after: &OptIn, slot: Timestamp) -> Seen {
    let status = after.status.clone().unwrap_or_default();
    let OptInStatus { last_slot, next_slot, intent, .. } = &status;
    match instant(last_slot.as_ref()) {
        Some(last) if last > slot => {
            Seen::Skipped(format!("the last one is that of {last}, and {}", told(before, after)))
        }
        Some(last) if last == slot => {
            let is_over = intent.is_none() && instant(next_slot.as_ref()).is_none_or(|next| next > slot);
            if is_over { Seen::Ended(told(before, after)) } else { Seen::Begun }
        }
        _ => Seen::Nothing,
    }
}

fn instant(text: Option<&String>) -> Option<Timestamp> {
    text?.parse().ok()
}

fn told(before: &OptIn, after: &OptIn) -> String {
    let kills = |record: &OptIn| record.status.as_ref().and_then(|status| status.kills).unwrap_or(0);
    match kills(after) - kills(before) {
        ..=0 => {
            let state = after.status.as_ref().and_then(|status| status.state.clone()).unwrap_or_default();
            match (state.as_str(), why(after)) {
                (STATE_DRY_RUN, why) if why.is_empty() => {
                    "nothing was killed, for it is a dry run".to_owned()
                }
                (STATE_DRY_RUN, why) => format!("nothing was killed, for it is a dry run: {why}"),
                (state, why) if why.is_empty() => format!("nothing was killed: {}", one_line(state)),
                (state, why) => format!("nothing was killed: {}: {why}", one_line(state)),
            }
        }
        1 => "1 Pod was killed".to_owned(),
        more => format!("{more} Pods were killed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SLOT: &str = "2026-11-23T12:00:10Z";

    fn record(spec: Value, status: Value) -> OptIn {
        serde_json::from_value(json!({
            "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn", "metadata": {"name": "chaos", "namespace": "a"},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn with(status: Value) -> OptIn {
        record(json!({"namespaceUid": "u", "verdict": "Admitted"}), status)
    }

    fn after(status: Value) -> Seen {
        let before = with(json!({"kills": 3, "lastSlot": "2026-11-23T11:55:00Z"}));
        seen(&before, &with(status), SLOT.parse().unwrap())
    }

    #[test]
    fn a_round_is_over_only_with_what_came_of_it() {
        assert_eq!(after(json!({"kills": 3, "lastSlot": "2026-11-23T11:55:00Z"})), Seen::Nothing);
        assert_eq!(after(json!({})), Seen::Nothing);
        // Spent, but the kill is only intended; then done, with a second one to come.
        assert_eq!(after(json!({"kills": 3, "lastSlot": SLOT, "nextSlot": SLOT})), Seen::Begun);
        let workload = json!({"kind": "Deployment", "name": "web", "uid": "w"});
        let kill = json!({"pod": "a", "uid": "p", "workload": workload, "time": SLOT, "steadyState": 2});
        let intent = json!({"slot": SLOT, "mode": "evict", "kill": kill});
        let next = "2026-11-23T12:10:00Z";
        assert_eq!(
            after(json!({"kills": 3, "lastSlot": SLOT, "nextSlot": next, "intent": intent})),
            Seen::Begun
        );
        assert_eq!(
            after(json!({"kills": 4, "lastSlot": SLOT, "nextSlot": next, "state": "active"})),
            Seen::Ended("1 Pod was killed".to_owned())
        );
    }

    #[test]
    fn where_nothing_was_killed_it_says_why() {
        let ended = |state: &str, conditions: Value| {
            after(json!({"kills": 3, "lastSlot": SLOT, "state": state, "conditions": conditions}))
        };
        let refused = json!([{
            "type": "Active", "status": "False", "reason": "NothingKilled", "message": "no Pod could be killed: 2 too_young",
            "lastTransitionTime": SLOT,
        }]);
        let dry_run = json!([{
            "type": "Active", "status": "False", "reason": "DryRun", "message": "would have been killed: web-1", "lastTransitionTime": SLOT,
        }]);
        for (state, conditions, expected) in [
            ("too_young", refused, "nothing was killed: too_young: no Pod could be killed: 2 too_young"),
            ("no Pods", json!([]), "nothing was killed: no Pods"),
            (STATE_DRY_RUN, json!([]), "nothing was killed, for it is a dry run"),
            (
                STATE_DRY_RUN,
                dry_run,
                "nothing was killed, for it is a dry run: would have been killed: web-1",
            ),
        ] {
            assert_eq!(ended(state, conditions), Seen::Ended(expected.to_owned()));
        }
    }

    #[test]
    fn another_round_is_not_the_one_that_was_asked_for() {
        let later = json!({"kills": 4, "lastSlot": "2026-11-23T12:00:50.25Z", "state": "active"});
        assert_eq!(
            after(later),
            Seen::Skipped("the last one is that of 2026-11-23T12:00:50.25Z, and 1 Pod was killed".to_owned())
        );
    }

    #[test]
    fn a_round_is_asked_for_only_where_that_changes_nothing_else() {
        let now = SLOT.parse().unwrap();
        let spec = |verdict: &str, also_at: &str| {
            let settings = json!({
                "schedule": "every 10m", "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false, "alsoAt": also_at,
            });
            json!({"namespaceUid": "u", "verdict": verdict, "reason": "remove `chaos`\nand set it again", "settings": settings})
        };
        let obstacle = |verdict, also_at| {
            obstacle(&record(spec(verdict, also_at), json!({})), now, "kubectl annotate namespace a x-")
        };
        let past = "2026-11-23T12:00:10Z";
        assert_eq!(obstacle("Admitted", past), None);
        for verdict in ["NotAdmitted", "NotUnderstood"] {
            assert_eq!(obstacle(verdict, past).as_deref(), Some("remove `chaos` and set it again"));
        }
        let planned = obstacle("Admitted", "2026-12-01T14:00:00Z").unwrap();
        assert!(
            planned.contains("2026-12-01T14:00:00Z") && planned.ends_with("kubectl annotate namespace a x-")
        );
    }
}

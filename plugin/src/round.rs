//! What a record says about a round that a user asked for.

use std::time::Duration;

use agent::explain::explanation::{countdown, one_line};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use policy::durations;
use policy::record::{OptIn, OptInStatus, RecordedSettings, STATE_DRY_RUN, Verdict};
use policy::schedule::Schedule;

use crate::status::why;

/// What became of a round.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The record does not show the round yet.
    Nothing,
    /// The round has begun.
    Begun,
    /// The round has ended, with this result.
    Ended(String),
    /// The agent served another round instead, with this result.
    Skipped(String),
}

/// Why no round can be asked for, and what to do. `None` if a round can be asked for.
///
/// A request for a round is consent to all annotations of the namespace. So the webhook must have
/// admitted them before, or the request would admit them too.
#[must_use]
pub fn obstacle(record: &OptIn, now: Timestamp, withdraw: &str) -> Option<String> {
    if record.spec.verdict != Verdict::Admitted {
        let reason = record.spec.reason.as_deref().unwrap_or("the webhook did not admit its opt-in");
        return Some(one_line(reason));
    }
    let planned = record.spec.settings.as_ref().and_then(|settings| instant(settings.also_at.as_ref()));
    let planned = planned.filter(|planned| *planned > now)?;
    Some(format!(
        "a round is already planned for {planned}, and another request would replace it; to withdraw it, \
         run: {withdraw}"
    ))
}

/// A round that the agent would skip, because it comes too soon after the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooSoon {
    /// The slot of the last round.
    pub last: Timestamp,
    /// The first instant at which the agent does not skip a round, rounded up to a second.
    pub earliest: Timestamp,
    /// The platform's shortest interval.
    pub shortest_interval: Duration,
}

impl TooSoon {
    /// Says why no round can be asked for at `slot`.
    #[must_use]
    pub fn refused(&self, slot: Timestamp) -> String {
        let Self { last, earliest, shortest_interval } = self;
        format!(
            "the last round was at {last}, and the platform's shortest interval is {}. The earliest next \
             round is at {earliest}: ask again {}",
            durations::print(*shortest_interval),
            countdown(*earliest, slot)
        )
    }

    /// Says that the agent may skip the round, because the shortest interval is not known for
    /// certain.
    #[must_use]
    pub fn supposed(&self) -> String {
        let Self { last, earliest, shortest_interval } = self;
        format!(
            "the last round was at {last}. You may not read the platform's shortest interval: if it is {}, \
             the agent skips this round, and the earliest next round is at {earliest}",
            durations::print(*shortest_interval)
        )
    }
}

/// Checks by the agent's own rule whether a round at `slot` would be skipped, because it comes less
/// than the platform's shortest interval after the last one. `None` if it would not be skipped.
#[must_use]
pub fn too_soon(record: &OptIn, slot: Timestamp, shortest_interval: Duration) -> Option<TooSoon> {
    let last = instant(record.status.as_ref()?.last_slot.as_ref())?;
    let settings = record.spec.settings.clone()?;
    let asked = RecordedSettings { also_at: Some(slot.to_string()), ..settings };
    if !asked.timetable(shortest_interval)?.is_too_soon(slot, Some(last)) {
        return None;
    }
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    let earliest = last.checked_add(shortest_interval).ok()?.round(up).ok()?;
    Some(TooSoon { last, earliest, shortest_interval })
}

/// The longest value that the platform's shortest interval can have. The webhook admitted the
/// schedule of this record, so the shortest interval is not longer than the interval of the
/// schedule.
#[must_use]
pub fn longest_interval(record: &OptIn) -> Duration {
    let settings = record.spec.settings.as_ref();
    match settings.and_then(|settings| Schedule::parse(&settings.schedule)) {
        Some(Schedule::Every(interval) | Schedule::Mtbf(interval)) => interval,
        Some(Schedule::Cron(_)) | None => durations::LONGEST,
    }
}

/// What a record says about the round at `slot`. `before` is the record from before the request.
///
/// The agent writes the slot before it kills. Before each kill it writes the intent of that kill.
/// At the end it writes the result together with the next slot.
#[must_use]
pub fn seen(before: &OptIn, after: &OptIn, slot: Timestamp) -> Seen {
    let status = after.status.clone().unwrap_or_default();
    let OptInStatus { last_slot, next_slot, intents, .. } = &status;
    match instant(last_slot.as_ref()) {
        Some(last) if last > slot => {
            Seen::Skipped(format!("the agent made the round of {last} instead, and {}", told(before, after)))
        }
        Some(last) if last == slot => {
            let is_over = intents.is_empty() && instant(next_slot.as_ref()).is_none_or(|next| next > slot);
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
                    "nothing was killed, because this is a dry run".to_owned()
                }
                (STATE_DRY_RUN, why) => format!("nothing was killed, because this is a dry run: {why}"),
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
        // First the slot is spent and nothing is killed yet. Then the intent of a kill is still
        // open.
        assert_eq!(after(json!({"kills": 3, "lastSlot": SLOT, "nextSlot": SLOT})), Seen::Begun);
        let workload = json!({"kind": "Deployment", "name": "web", "uid": "w"});
        let kill = json!({"pod": "a", "uid": "p", "workload": workload, "time": SLOT, "steadyState": 2});
        let intent = json!({"slot": SLOT, "mode": "evict", "kill": kill});
        let next = "2026-11-23T12:10:00Z";
        assert_eq!(
            after(json!({"kills": 3, "lastSlot": SLOT, "nextSlot": next, "intents": [intent]})),
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
            "type": "Active", "status": "False", "reason": "DryRun",
            "message": "the round would have killed: web-1", "lastTransitionTime": SLOT,
        }]);
        for (state, conditions, expected) in [
            ("too_young", refused, "nothing was killed: too_young: no Pod could be killed: 2 too_young"),
            ("no Pods", json!([]), "nothing was killed: no Pods"),
            (STATE_DRY_RUN, json!([]), "nothing was killed, because this is a dry run"),
            (
                STATE_DRY_RUN,
                dry_run,
                "nothing was killed, because this is a dry run: the round would have killed: web-1",
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
            Seen::Skipped(
                "the agent made the round of 2026-11-23T12:00:50.25Z instead, and 1 Pod was killed"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_round_that_would_be_skipped_is_known_before_it_is_asked_for() {
        let of = |schedule: &str, last: Value| {
            let settings =
                json!({"schedule": schedule, "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false});
            let spec = json!({"namespaceUid": "u", "verdict": "Admitted", "settings": settings});
            record(spec, json!({"lastSlot": last}))
        };
        let slot = SLOT.parse().unwrap();
        let minute = Duration::from_secs(60);
        let found = |last: &str, shortest| too_soon(&of("every 10m", json!(last)), slot, shortest);
        assert_eq!(found("2026-11-23T11:59:10Z", minute), None, "as far away as they are to be");
        let known = found("2026-11-23T11:59:10.363Z", minute).unwrap();
        assert_eq!(
            known.refused(slot),
            "the last round was at 2026-11-23T11:59:10.363Z, and the platform's shortest interval is 1m. \
             The earliest next round is at 2026-11-23T12:00:11Z: ask again in 1 s"
        );
        let supposed = "if it is 1m, the agent skips this round, \
                        and the earliest next round is at 2026-11-23T12:00:11Z";
        assert!(known.supposed().ends_with(supposed));
        assert_eq!(found("2026-11-23T11:59:50Z", Duration::from_secs(10)), None, "the platform allows more");
        // No slot was served yet, or the last slot is not before this one.
        assert_eq!(too_soon(&of("every 10m", Value::Null), slot, minute), None);
        assert_eq!(found("2026-11-23T12:00:10Z", minute), None);

        for (schedule, seconds) in [("every 10s", 10), ("mtbf 8h", 28_800), ("cron 0 9 * * *", 366 * 86_400)]
        {
            let longest = longest_interval(&of(schedule, Value::Null));
            assert_eq!(longest, Duration::from_secs(seconds), "{schedule}");
        }
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

//! `status`: shows the records as `kubectl get chaos` does, with a countdown to the next round and
//! the reason why nothing is killed.

use agent::explain::explanation::{countdown, one_line};
use jiff::Timestamp;
use kube::ResourceExt;
use policy::record::{ACTIVE, OptIn, Verdict};
use serde_json::{Value, json};

/// The headings of the table.
const HEADINGS: [&str; 7] = ["NAMESPACE", "OPTED IN BY", "SCHEDULE", "NEXT", "KILLS", "STATE", "WHY"];

/// The records as a table, with the countdowns as of `now`.
#[must_use]
pub fn table(records: &[OptIn], now: Timestamp) -> String {
    let rows: Vec<[String; 7]> = records.iter().map(|record| row(record, now)).collect();
    let headings = HEADINGS.map(str::to_owned);
    let all: Vec<&[String; 7]> = std::iter::once(&headings).chain(&rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    all.into_iter().map(line).collect()
}

/// The records as a `List`, as kubectl prints one.
#[must_use]
pub fn json(records: &[OptIn]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": records})
}

fn row(record: &OptIn, now: Timestamp) -> [String; 7] {
    let status = record.status.clone().unwrap_or_default();
    let spec = &record.spec;
    let next = status.next_slot.as_deref().and_then(|slot| slot.parse().ok());
    [
        record.namespace().unwrap_or_default(),
        spec.admission.as_ref().map_or_else(String::new, |admission| admission.user.clone()),
        spec.settings.as_ref().map_or_else(String::new, |settings| settings.schedule.clone()),
        next.map_or_else(String::new, |next| countdown(next, now)),
        status.kills.map_or_else(String::new, |kills| kills.to_string()),
        status.state.clone().unwrap_or_default(),
        why(record),
    ]
    .map(|cell| one_line(&cell))
}

/// Why nothing is killed, in words. The reason is the webhook's if it did not admit the opt-in.
/// Otherwise it is the message of the agent's condition `Active`.
pub(crate) fn why(record: &OptIn) -> String {
    if record.spec.verdict != Verdict::Admitted {
        return one_line(record.spec.reason.as_deref().unwrap_or_default());
    }
    let mut conditions = record.status.iter().flat_map(|status| &status.conditions);
    let active = conditions.find(|condition| condition.type_ == ACTIVE);
    active.map(|condition| one_line(&condition.message)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(namespace: &str, spec: Value, status: Value) -> OptIn {
        serde_json::from_value(json!({
            "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn",
            "metadata": {"name": "chaos", "namespace": namespace}, "spec": spec, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_table_counts_down_and_says_why() {
        let settings =
            json!({"schedule": "every 10m", "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false});
        let admitted = json!({
            "namespaceUid": "u", "verdict": "Admitted", "settings": settings,
            "admission": {"user": "mara", "time": "2026-11-23T12:00:00Z", "digest": "d"},
        });
        let halted = json!({
            "nextSlot": "2026-11-23T12:04:44Z", "kills": 3, "state": "halted",
            "conditions": [{
                "type": "Active", "status": "False", "reason": "NothingKilled", "message": "halted by\nincident \u{1b}[2J4711",
                "lastTransitionTime": "2026-11-23T12:00:00Z"
            }],
        });
        let refused = json!({"namespaceUid": "v", "verdict": "NotAdmitted", "reason": "remove `chaos`"});
        let records = [record("a", admitted, halted), record("longer", refused, json!({}))];
        let expected = "\
NAMESPACE   OPTED IN BY   SCHEDULE    NEXT            KILLS   STATE    WHY
a           mara          every 10m   in 4 min 44 s   3       halted   halted by incident \\u{1b}[2J4711
longer                                                                 remove `chaos`
";
        assert_eq!(table(&records, "2026-11-23T12:00:00Z".parse().unwrap()), expected);
        assert_eq!(json(&records)["items"][1]["spec"]["verdict"], "NotAdmitted");
    }
}

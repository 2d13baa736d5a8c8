//! What the agent reports about a recovery, and about the checks that were sampled during it.

use std::time::Duration;

use jiff::Timestamp;
use policy::record::{BrokenSample, WorkloadReference};

use super::{Count, Line, Tellings};
use crate::recovery::{Recovery, RecoveryOutcome};
use crate::steady_state::hypothesis::{EndedHypothesis, after};
use crate::telemetry::activity::{Decision, DecisionKind, EndedLine};
use crate::telemetry::events;

pub(super) fn of_recovery(
    namespace: &str,
    recovery: &Recovery,
    (outcome, duration): (RecoveryOutcome, Option<Duration>),
    says: Option<&str>,
    hypotheses: &[EndedHypothesis],
    at: Timestamp,
) -> Tellings {
    let workload = &recovery.workload;
    let checks: Vec<String> = hypotheses.iter().map(|ended| ended.sentence(recovery.killed)).collect();
    let sentence = match (duration, says) {
        (Some(duration), _) => format!("{:.1} s after the kill", duration.as_secs_f64()),
        (None, Some(says)) => format!("{}; the workload reports: {says}", outcome.meaning()),
        (None, None) => outcome.meaning().to_owned(),
    };
    let line = Line {
        workload: Some(workload.clone()),
        pod: Some(recovery.pods()),
        uid: Some(recovery.uids()),
        ..Line::default()
    };
    let of_check = |(ended, sentence): (&EndedHypothesis, &String)| Line {
        message: "hypothesis ended",
        check: Some(ended.check.clone()),
        outcome: Some(ended.outcome.label()),
        sentence: Some(sentence.clone()),
        ..line.clone()
    };
    let of_hypotheses: Vec<Line> = hypotheses.iter().zip(&checks).map(of_check).collect();
    let ended = Line {
        message: "recovery ended",
        outcome: Some(outcome.label()),
        sentence: says.map(str::to_owned),
        seconds: duration.map(|duration| duration.as_secs_f64()),
        ..line
    };
    let of_check = |ended: &EndedHypothesis| Count::Hypothesis {
        workload: workload.clone(),
        check: ended.check.clone(),
        outcome: ended.outcome,
    };
    Tellings {
        lines: std::iter::once(ended).chain(of_hypotheses).collect(),
        counts: std::iter::once(Count::Recovery(workload.clone(), EndedLine { outcome, duration }))
            .chain(hypotheses.iter().map(of_check))
            .collect(),
        events: events::recovery_ended(namespace, recovery, (outcome, duration), says, &checks)
            .into_iter()
            .collect(),
        entries: vec![Decision {
            at,
            namespace: namespace.to_owned(),
            workload: format!("{} {}", workload.kind, workload.name),
            pod: recovery.pods(),
            what: DecisionKind::Ended(outcome),
            sentence: std::iter::once(sentence).chain(checks).collect::<Vec<_>>().join("; "),
        }],
    }
}

pub(super) fn of_break(
    namespace: &str,
    (workload, pod, pod_uid): (&WorkloadReference, &str, &str),
    killed: Timestamp,
    (check, broken): (&str, &BrokenSample),
    at: Timestamp,
) -> Tellings {
    let when = after(broken, killed);
    let saw = &broken.saw;
    Tellings {
        lines: vec![Line {
            is_warning: true,
            message: "check broke during a recovery",
            workload: Some(workload.clone()),
            pod: Some(pod.to_owned()),
            uid: Some(pod_uid.to_owned()),
            check: Some(check.to_owned()),
            sentence: Some(format!("check `{check}` broke{when}: {saw}")),
            ..Line::default()
        }],
        events: vec![events::hypothesis_broken(namespace, workload, (pod, pod_uid), check, &when, saw)],
        entries: vec![Decision {
            at,
            namespace: namespace.to_owned(),
            workload: format!("{} {}", workload.kind, workload.name),
            pod: pod.to_owned(),
            what: DecisionKind::Broken,
            sentence: format!("check `{check}` broke{when}: {saw}"),
        }],
        ..Tellings::default()
    }
}

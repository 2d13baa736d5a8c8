//! Turns rounds and kills into lines of the status page.

use jiff::Timestamp;
use policy::record::{Pending, WorkloadReference};

use crate::guard::pods::Candidate;
use crate::round::kill::Attempt;
use crate::round::report::RoundReport;
use crate::telemetry::activity::{Decision, DecisionKind};
use crate::telemetry::metrics::RoundOutcome;

/// The lines for the end of a round: one for each reason, with the workloads that were refused for
/// it. They leave out the kills that the round tried, because those have their lines already.
#[must_use]
pub fn decisions(report: &RoundReport, namespace: &str, at: Timestamp) -> Vec<Decision> {
    let decision = |what, workload: String, sentence: &str| Decision {
        at,
        namespace: namespace.to_owned(),
        workload,
        pod: String::new(),
        what,
        sentence: sentence.to_owned(),
    };
    let mut decisions = Vec::new();
    for refusal in &report.reasons {
        let what = DecisionKind::Refused(refusal.label());
        if report.observation.is_none() {
            decisions.push(decision(what, String::new(), &report.sentence));
            continue;
        }
        let name = |workload: &WorkloadReference| format!("{} {}", workload.kind, workload.name);
        let is_told =
            |name: &String| report.tried.iter().any(|tried| tried.what == what && tried.workload == *name);
        let refused = report.refused.iter().filter(|(_, reason)| *reason == refusal);
        let (told, untold): (Vec<String>, Vec<String>) =
            refused.map(|(workload, _)| name(workload)).partition(is_told);
        match untold.as_slice() {
            [] if !told.is_empty() => {}
            // The reason refused only Pods of workloads in which another Pod could be killed, or
            // Pods without a workload.
            [] => decisions.push(decision(what, "some Pods".to_owned(), refusal.meaning())),
            [only] => decisions.push(decision(what, only.clone(), refusal.meaning())),
            [first, others @ ..] => {
                let workloads = format!("{first} and {} more", others.len());
                decisions.push(decision(what, workloads, refusal.meaning()));
            }
        }
    }
    if decisions.is_empty() && report.tried.is_empty() && !report.is_waiting {
        let what = if report.outcome == RoundOutcome::Failed {
            DecisionKind::Failed(None)
        } else {
            DecisionKind::Nothing
        };
        decisions.push(decision(what, String::new(), &report.sentence));
    }
    decisions
}

/// The line for an attempt to kill a Pod. `None` if nothing was sent because another process may
/// lead.
#[must_use]
pub fn tried(
    namespace: &str,
    victim: &Candidate,
    how: &str,
    attempt: &Attempt,
    at: Timestamp,
) -> Option<Decision> {
    let by = || format!("mode {how}");
    let (what, sentence) = match attempt {
        Attempt::Killed => (DecisionKind::Killed, by()),
        Attempt::DryRun => (DecisionKind::DryRun, format!("would have been killed, {}", by())),
        Attempt::Refused(refusal, sentence) => (DecisionKind::Refused(refusal.label()), sentence.clone()),
        Attempt::Failed(failure, sentence) => (DecisionKind::Failed(Some(failure.label())), sentence.clone()),
        Attempt::NotLeading => return None,
    };
    let WorkloadReference { kind, name, uid: _ } = &victim.workload.reference;
    Some(Decision {
        at,
        namespace: namespace.to_owned(),
        workload: format!("{kind} {name}"),
        pod: victim.pod.name.clone(),
        what,
        sentence,
    })
}

/// The line for a slot that was skipped.
#[must_use]
pub fn skipped(namespace: &str, slot: Timestamp, reason: &str, at: Timestamp) -> Decision {
    let slot = slot.strftime("%H:%M:%S UTC");
    Decision {
        at,
        namespace: namespace.to_owned(),
        workload: String::new(),
        pod: String::new(),
        what: DecisionKind::Skipped,
        sentence: format!("slot {slot}: {reason}"),
    }
}

/// The line for a kill whose result was unknown at first.
#[must_use]
pub fn found_out(
    namespace: &str,
    kill: &Pending,
    what: DecisionKind,
    sentence: String,
    at: Timestamp,
) -> Decision {
    let Pending { pod, workload: WorkloadReference { kind, name, uid: _ }, .. } = kill;
    Decision {
        at,
        namespace: namespace.to_owned(),
        workload: format!("{kind} {name}"),
        pod: pod.clone(),
        what,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::NamespaceSnapshot;
    use crate::refusal::Refusal;

    fn workload(name: &str) -> WorkloadReference {
        WorkloadReference { kind: "Deployment".to_owned(), name: name.to_owned(), uid: name.to_owned() }
    }

    /// A round that saw its Pods, and refused these workloads, and Pods for these reasons.
    fn refused(workloads: &[(&str, Refusal)], reasons: &[Refusal]) -> RoundReport {
        let refused = workloads.iter().map(|(name, refusal)| (workload(name), *refusal));
        RoundReport {
            refused: refused.collect(),
            reasons: reasons.iter().copied().collect(),
            observation: Some(NamespaceSnapshot::default()),
            ..RoundReport::new(RoundOutcome::NoCandidate, "no Pod could be killed".to_owned())
        }
    }

    fn told(report: &RoundReport) -> Vec<(DecisionKind, String)> {
        let decisions = decisions(report, "a", Timestamp::UNIX_EPOCH);
        decisions.into_iter().map(|decision| (decision.what, decision.workload)).collect()
    }

    #[test]
    fn each_reason_is_told_once_with_what_it_kept_from_being_hit() {
        let (single, young) = (Refusal::SingleReplica, Refusal::TooYoung);
        for (workloads, reasons, expected) in [
            (&[("a", single)][..], &[single][..], &[(single, "Deployment a")][..]),
            (
                &[("a", single), ("b", single), ("c", single)],
                &[single],
                &[(single, "Deployment a and 2 more")],
            ),
            (
                &[("a", single), ("b", young)],
                &[single, young],
                &[(young, "Deployment b"), (single, "Deployment a")],
            ),
            // The reason refused only Pods of workloads in which another Pod could be killed.
            (&[], &[young], &[(young, "some Pods")]),
        ] {
            let expected: Vec<(DecisionKind, String)> = expected
                .iter()
                .map(|(refusal, of)| (DecisionKind::Refused(refusal.label()), (*of).to_owned()))
                .collect();
            assert_eq!(told(&refused(workloads, reasons)), expected, "{workloads:?}");
        }
    }

    #[test]
    fn a_kill_that_was_refused_at_the_last_moment_is_told_once() {
        let what = DecisionKind::Refused(Refusal::BlockedByPdb.label());
        let mut report = refused(&[("a", Refusal::BlockedByPdb)], &[Refusal::BlockedByPdb]);
        report.tried.push(Decision {
            at: Timestamp::UNIX_EPOCH,
            namespace: "a".to_owned(),
            workload: "Deployment a".to_owned(),
            pod: "a-1".to_owned(),
            what,
            sentence: "a PodDisruptionBudget".to_owned(),
        });
        assert_eq!(told(&report), [], "by then");
    }

    #[test]
    fn a_round_with_nothing_to_decide_says_so_unless_no_workload_was_due() {
        let mut report = RoundReport::new(RoundOutcome::NoCandidate, "there are no Pods".to_owned());
        assert_eq!(told(&report), [(DecisionKind::Nothing, String::new())]);
        report.is_waiting = true;
        assert_eq!(told(&report), []);
        let failed = RoundReport::failed("no answer".to_owned());
        assert_eq!(told(&failed), [(DecisionKind::Failed(None), String::new())]);
    }
}

//! A round as lines of the agent's page: what was tried, and what was refused and why.

use jiff::Timestamp;
use policy::record::{Pending, WorkloadReference};
use policy::settings::Mode;

use crate::board::{Decision, What};
use crate::guards::Candidate;
use crate::kill::Attempt;
use crate::metrics::RoundOutcome;
use crate::report::RoundReport;

/// The kills that a round tried, then each reason of a refusal once, with the workloads that it kept from being hit.
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
    let mut decisions = report.tried.clone();
    for refusal in &report.reasons {
        let what = What::Refused(refusal.label());
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
            // Only some of a workload's Pods, or Pods of none.
            [] => decisions.push(decision(what, String::new(), refusal.meaning())),
            [only] => decisions.push(decision(what, only.clone(), refusal.meaning())),
            [first, others @ ..] => {
                let workloads = format!("{first} and {} more", others.len());
                decisions.push(decision(what, workloads, refusal.meaning()));
            }
        }
    }
    if decisions.is_empty() && !report.is_waiting {
        let what = if report.outcome == RoundOutcome::Failed { What::Failed(None) } else { What::Nothing };
        decisions.push(decision(what, String::new(), &report.sentence));
    }
    decisions
}

/// What an attempt to kill came to; nothing where nothing was sent because another process may lead.
#[must_use]
pub fn tried(
    namespace: &str,
    victim: &Candidate,
    mode: Mode,
    attempt: &Attempt,
    at: Timestamp,
) -> Option<Decision> {
    let by = || format!("mode {}", mode.word());
    let (what, sentence) = match attempt {
        Attempt::Killed => (What::Killed, by()),
        Attempt::DryRun => (What::DryRun, by()),
        Attempt::Refused(refusal, sentence) => (What::Refused(refusal.label()), sentence.clone()),
        Attempt::Failed(failure, sentence) => (What::Failed(Some(failure.label())), sentence.clone()),
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

/// A kill whose result was not known at first.
#[must_use]
pub fn found_out(namespace: &str, kill: &Pending, mode: Mode, at: Timestamp) -> Decision {
    let Pending { pod, workload: WorkloadReference { kind, name, uid: _ }, .. } = kill;
    Decision {
        at,
        namespace: namespace.to_owned(),
        workload: format!("{kind} {name}"),
        pod: pod.clone(),
        what: What::Killed,
        sentence: format!("mode {}, as was found out later", mode.word()),
    }
}

//! Decides which refusals of a round Events tell. A refusal is told once for as long as it stays
//! the same. If a round refuses many workloads, one Event sums most of them up. The functions here
//! are pure.

use std::collections::BTreeMap;

use policy::record::{ToldRefusal, WorkloadReference};
use runtime::text::cut;

use crate::refusal::Refusal;
use crate::round::kill::Failure;
use crate::round::report::RoundReport;

/// How many workloads of a namespace get Events of their own. One Event on the Namespace sums up
/// the others.
pub const MOST: usize = 20;

/// The most bytes of a told refusal in the record.
const LONGEST_REASON: usize = 300;

/// A refusal or a failure, as an Event tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldEvent {
    /// The workload. `None` if the Event is about the Namespace.
    pub workload: Option<WorkloadReference>,
    /// The label of the reason. It also makes the `action` of the Event.
    pub label: &'static str,
    /// A sentence for people.
    pub sentence: String,
    /// Whether this sums up the refusals of many workloads.
    pub is_summary: bool,
    /// Whether the round killed another Pod of the workload.
    pub is_further: bool,
}

impl ToldEvent {
    /// The refusal in the form in which the record stores it.
    fn remembered(&self) -> ToldRefusal {
        let reason = cut(format!("{}: {}", self.label, self.sentence), LONGEST_REASON);
        ToldRefusal { workload: self.workload.clone(), reason }
    }
}

/// Everything that is refused after a round, in the form of Events.
fn told(report: &RoundReport) -> Vec<ToldEvent> {
    if report.observation.is_none() {
        return report.reasons.first().map(|refusal| whole(*refusal, &report.sentence)).into_iter().collect();
    }
    let mut all: BTreeMap<&WorkloadReference, (&'static str, String)> = BTreeMap::new();
    for (workload, refusal) in &report.refused {
        let sentence =
            tried(report, workload, refusal.label()).or_else(|| report.because.get(workload).cloned());
        all.insert(workload, (refusal.label(), sentence.unwrap_or_else(|| refusal.meaning().to_owned())));
    }
    for (workload, (failure, sentence)) in &report.failed {
        // Temporary failures are only in the log and the metrics.
        if matches!(failure, Failure::Forbidden | Failure::PdbMisconfigured) {
            all.insert(workload, (failure.label(), sentence.clone()));
        }
    }
    let mut others: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (label, _) in all.values().skip(MOST) {
        *others.entry(*label).or_default() += 1;
    }
    let number: usize = others.values().sum();
    let counted: Vec<String> = others.iter().map(|(label, count)| format!("{count} {label}")).collect();
    let summary = others.keys().next().copied().map(|label| ToldEvent {
        workload: None,
        label,
        sentence: format!("{number} more workloads: {}", counted.join(", ")),
        is_summary: true,
        is_further: false,
    });
    let is_killed = |workload: &WorkloadReference| {
        report.kills.iter().any(|kill| kill.candidate.workload.reference == *workload)
    };
    let each = all.into_iter().take(MOST).map(|(workload, (label, sentence))| ToldEvent {
        is_further: is_killed(workload),
        workload: Some(workload.clone()),
        label,
        sentence,
        is_summary: false,
    });
    each.chain(summary).collect()
}

fn whole(refusal: Refusal, sentence: &str) -> ToldEvent {
    ToldEvent {
        workload: None,
        label: refusal.label(),
        sentence: sentence.to_owned(),
        is_summary: false,
        is_further: false,
    }
}

/// What the API server or the last check said when the agent tried to kill a Pod of this workload.
fn tried(report: &RoundReport, workload: &WorkloadReference, label: &str) -> Option<String> {
    let name = format!("{} {}", workload.kind, workload.name);
    let known =
        report.tried.iter().find(|tried| tried.workload == name && tried.what.reason() == Some(label));
    known.map(|tried| tried.sentence.clone())
}

/// The refusals of a round that no Event has told yet.
#[must_use]
pub fn untold(report: &RoundReport, before: &[ToldRefusal]) -> Vec<ToldEvent> {
    told(report).into_iter().filter(|told| !before.contains(&told.remembered())).collect()
}

/// The refusals that Events have told once the Events of this round are written. The next round
/// needs them.
#[must_use]
pub fn remembered(report: &RoundReport, before: &[ToldRefusal]) -> Vec<ToldRefusal> {
    let now: Vec<ToldRefusal> = told(report).iter().map(ToldEvent::remembered).collect();
    if report.observation.is_some() {
        return now;
    }
    if report.reasons.is_empty() {
        // The round failed, so nobody knows what is refused now.
        return before.to_vec();
    }
    // The round did not look at the workloads, so what Events told of them stays.
    before.iter().filter(|known| known.workload.is_some()).cloned().chain(now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::NamespaceSnapshot;
    use crate::telemetry::metrics::RoundOutcome;

    fn workload(number: usize) -> WorkloadReference {
        let name = format!("w{number:04}");
        WorkloadReference { kind: "Deployment".to_owned(), uid: format!("{name}-uid"), name }
    }

    /// A round that looked at the namespace and refused this number of workloads.
    fn refused(number: usize, refusal: Refusal) -> RoundReport {
        RoundReport {
            refused: (0..number).map(|n| (workload(n), refusal)).collect(),
            reasons: [refusal].into(),
            observation: Some(NamespaceSnapshot::default()),
            ..RoundReport::new(RoundOutcome::NoCandidate, String::new())
        }
    }

    /// For each of these rounds, how many Events about workloads and how many about the namespace
    /// it makes.
    fn told_by(rounds: &[RoundReport]) -> Vec<(usize, usize)> {
        let mut before = Vec::new();
        let mut all = Vec::new();
        for round in rounds {
            let untold = untold(round, &before);
            let of_workloads = untold.iter().filter(|told| told.workload.is_some()).count();
            all.push((of_workloads, untold.len() - of_workloads));
            before = remembered(round, &before);
        }
        all
    }

    #[test]
    fn what_stays_is_told_once_and_again_for_another_reason() {
        let halted = |text: &str| RoundReport {
            reasons: [Refusal::Halted].into(),
            ..RoundReport::new(RoundOutcome::Refused, text.to_owned())
        };
        let young = || refused(2, Refusal::TooYoung);
        let failed = || RoundReport::failed("no answer".to_owned());
        for (rounds, expected) in [
            (vec![young(), young()], vec![(2, 0), (0, 0)]),
            (vec![young(), refused(2, Refusal::NotReady)], vec![(2, 0), (2, 0)]),
            (vec![young(), refused(0, Refusal::NotReady), young()], vec![(2, 0), (0, 0), (2, 0)]),
            // After a failed round, nobody knows whether the refusal ended in between.
            (vec![young(), failed(), young()], vec![(2, 0), (0, 0), (0, 0)]),
            (vec![young(), halted("4711"), young()], vec![(2, 0), (0, 1), (0, 0)]),
            (vec![halted("4711"), halted("4711"), halted("4712")], vec![(0, 1), (0, 0), (0, 1)]),
            (
                vec![refused(1_000, Refusal::TooYoung), refused(1_000, Refusal::TooYoung)],
                vec![(MOST, 1), (0, 0)],
            ),
            (
                vec![refused(MOST, Refusal::TooYoung), refused(MOST + 1, Refusal::TooYoung)],
                vec![(MOST, 0), (0, 1)],
            ),
        ] {
            assert_eq!(told_by(&rounds), expected);
        }
    }

    #[test]
    fn a_kill_that_the_api_server_refused_is_told_in_its_words_and_one_that_failed_is_not() {
        let failed = |failure| {
            let mut report = refused(0, Refusal::NotReady);
            report.failed.insert(workload(1), (failure, "a policy says no".to_owned()));
            untold(&report, &[]).into_iter().map(|told| (told.label, told.sentence)).collect::<Vec<_>>()
        };
        assert_eq!(failed(Failure::Forbidden), [("forbidden", "a policy says no".to_owned())]);
        assert_eq!(failed(Failure::ServerError), []);
    }
}

//! The lines that `agent once` prints for a namespace: one for each kill, each refusal and each
//! recovery.

use policy::record::WorkloadReference;

use crate::controller::namespace::visit::Visit;
use crate::recovery::RecoveryOutcome;
use crate::recovery::tracker::Ended;
use crate::refusal::Refusal;
use crate::round::report::RoundReport;
use crate::telemetry::metrics::RoundOutcome;

/// The lines for a visit.
#[must_use]
pub fn visit_lines(namespace: &str, visit: &Visit) -> Vec<String> {
    let lines = match visit {
        Visit::NotDue(Some(next)) => vec![format!("no round is due before {next}")],
        Visit::NotDue(None) => vec!["no round is due".to_owned()],
        Visit::Round(report) => round_lines(report),
    };
    lines.into_iter().map(|line| format!("{namespace}: {line}")).collect()
}

fn round_lines(report: &RoundReport) -> Vec<String> {
    let RoundReport { outcome, kills, dry_runs, reasons, refused, sentence, observation, .. } = report;
    let mut lines = Vec::new();
    for kill in kills {
        let (pod, workload) = (&kill.candidate.pod.name, &kill.candidate.workload.reference);
        lines.push(format!("killed Pod {pod} of {}", named(workload)));
    }
    for candidate in dry_runs {
        let (pod, workload) = (&candidate.pod.name, &candidate.workload.reference);
        lines.push(format!("dry run: would have killed Pod {pod} of {}", named(workload)));
    }
    for (workload, refusal) in refused {
        lines.push(format!("refused {}: {}: {}", named(workload), refusal.label(), refusal.meaning()));
    }
    // These Pods have no workload, so the lines about workloads do not mention them.
    if reasons.contains(&Refusal::NoController) {
        lines.push(format!(
            "refused Pods: {}: {}",
            Refusal::NoController.label(),
            Refusal::NoController.meaning()
        ));
    }
    match (outcome, reasons.first()) {
        (RoundOutcome::Failed, _) => lines.push(format!("failed: {sentence}")),
        (_, Some(refusal)) if observation.is_none() => {
            lines.push(format!("nothing was killed: {}: {sentence}", refusal.label()));
        }
        _ if lines.is_empty() => lines.push(format!("nothing was killed: {sentence}")),
        _ => {}
    }
    lines
}

/// The line for the end of a recovery.
#[must_use]
pub fn ended_line(namespace: &str, ended: &Ended) -> String {
    let Ended { workload, victims, outcome, duration, checks } = ended;
    let workload = named(workload);
    let line = match (outcome, duration) {
        (RecoveryOutcome::Recovered, Some(duration)) => {
            format!("recovered {workload} {:.1} s after Pod {victims} was killed", duration.as_secs_f64())
        }
        (RecoveryOutcome::Recovered | RecoveryOutcome::RecoveredAfterRestart, _) => {
            format!("recovered {workload} after Pod {victims} was killed; the time was not measured")
        }
        (RecoveryOutcome::TimedOut, _) => {
            format!("timed_out {workload} did not recover in time after Pod {victims} was killed")
        }
        (other, _) => format!("{} {workload} after Pod {victims} was killed", other.label()),
    };
    std::iter::once(&format!("{namespace}: {line}")).chain(checks).cloned().collect::<Vec<_>>().join("; ")
}

fn named(workload: &WorkloadReference) -> String {
    format!("{} {}", workload.kind, workload.name)
}

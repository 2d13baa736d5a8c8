//! Reports a fact to the log, the metrics, Kubernetes Events and the status page. A task only hands
//! over the fact. [`crate::telemetry::fact`] decides what each of them shows.

use policy::record::WorkloadReference;
use runtime::text::cut;

use crate::context::Context;
use crate::telemetry::fact::{Count, Fact, Line, Tellings, tellings};

/// The most bytes of a sentence in the log.
const LONGEST_SENTENCE: usize = 2_048;

impl Context {
    /// Reports a fact about a namespace. This function never waits.
    pub fn tell(&self, namespace: &str, fact: &Fact<'_>) {
        let Tellings { lines, counts, events, entries } = tellings(namespace, fact, self.clock.wall());
        for line in &lines {
            log(namespace, line);
        }
        for count in counts {
            self.count(namespace, count);
        }
        for event in events {
            self.events.write(event);
        }
        for entry in entries {
            self.activity_log.decide(entry);
        }
    }

    fn count(&self, namespace: &str, count: Count) {
        match count {
            Count::Round(outcome) => self.metrics.round(namespace, outcome),
            Count::Refusal(refusal) => self.metrics.refusal(namespace, refusal),
            Count::Kill(workload, mode) => self.metrics.kill(namespace, &workload, mode),
            Count::Failure(failure) => self.metrics.kill_failure(namespace, failure),
            Count::Recovery(workload, ended) => {
                self.metrics.recovery(namespace, &workload, ended.outcome, ended.duration);
                self.activity_log.ended(namespace, ended);
            }
            Count::Hypothesis { workload, check, outcome } => {
                self.metrics.hypothesis(namespace, &workload, &check, outcome);
            }
        }
    }
}

fn log(namespace: &str, line: &Line) {
    let Line { is_warning, message, workload, pod, uid, mode, slot, outcome, outage, kills, .. } = line;
    let Line { reason, reasons, check, sentence, seconds, .. } = line;
    let (workload_kind, workload) = match workload {
        Some(WorkloadReference { kind, name, uid: _ }) => (Some(kind.as_str()), Some(name.as_str())),
        None => (None, None),
    };
    let (pod, uid, slot) = (pod.as_deref(), uid.as_deref(), slot.as_deref());
    let (reasons, check, outage) = (reasons.as_deref(), check.as_deref(), outage.as_deref());
    // Cuts the sentence, because it may quote text from others, such as the text of a halt.
    let sentence = sentence.as_deref().map(|sentence| cut(sentence, LONGEST_SENTENCE));
    let sentence = sentence.as_deref();
    macro_rules! write_at {
        ($level:ident) => {
            tracing::$level!(
                namespace,
                workload_kind,
                workload,
                pod,
                uid,
                mode,
                slot,
                outcome,
                outage,
                kills,
                reason,
                reasons,
                check,
                sentence,
                seconds,
                "{message}"
            )
        };
    }
    if *is_warning {
        write_at!(warn);
    } else {
        write_at!(info);
    }
}

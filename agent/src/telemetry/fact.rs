//! Decides what the agent reports about a fact: log lines, metrics, Events and entries of the
//! status page. The functions here are pure; [`crate::telemetry::reporter`] writes their result.

use std::time::Duration;

use jiff::Timestamp;
use policy::record::{BrokenSample, Pending, ToldRefusal, WorkloadReference};
use policy::settings::Mode;
use policy::well_known::SYSTEM_NAMESPACE;

use crate::guard::pods::Candidate;
use crate::recovery::{Recovery, RecoveryOutcome};
use crate::round::kill::Attempt;
use crate::round::report::RoundReport;
use crate::steady_state::hypothesis::EndedHypothesis;
use crate::telemetry::activity::DecisionKind;
use crate::telemetry::decision_log::{decisions, found_out, skipped, tried};
use crate::telemetry::events;
use crate::telemetry::refusals::untold;

mod recovery;
mod tellings;

use recovery::{of_break, of_recovery};
pub use tellings::{Count, Line, Tellings};

/// Something that happened and that the agent reports.
pub enum Fact<'a> {
    /// The agent tried to kill a Pod.
    Tried {
        /// The Pod that the agent tried to kill.
        victim: &'a Candidate,
        /// The mode of the kill.
        mode: Mode,
        /// The mode, and the outage that the kill is part of, in a few words.
        how: &'a str,
        /// The result of the attempt.
        attempt: &'a Attempt,
    },
    /// The agent found out whether an earlier kill happened.
    FoundOut {
        /// The kill, as the record stores it.
        kill: &'a Pending,
        /// The mode of the kill.
        mode: Mode,
        /// Whether the Pod was killed.
        is_killed: bool,
    },
    /// A round ended.
    Round {
        /// The slot of the round.
        slot: Timestamp,
        /// The result of the round.
        report: &'a RoundReport,
        /// The UID of the Namespace.
        namespace_uid: &'a str,
        /// The refusals that Events have already told. A refusal that stays the same is not told
        /// again.
        told: &'a [ToldRefusal],
    },
    /// A slot was skipped.
    Skipped {
        /// The slot that was skipped.
        slot: Timestamp,
        /// A sentence that says why.
        reason: &'a str,
    },
    /// The API server refuses to write the record's status, for a reason that is not temporary. The
    /// log has a line for each failed write, so this fact only makes an Event.
    RecordRefused {
        /// The message of the API server.
        sentence: &'a str,
        /// The UID of the Namespace.
        namespace_uid: &'a str,
    },
    /// A recovery ended.
    RecoveryEnded {
        /// The recovery that ended.
        recovery: &'a Recovery,
        /// How the recovery ended.
        outcome: RecoveryOutcome,
        /// How long the recovery took. `None` if the time was not measured.
        duration: Option<Duration>,
        /// What the conditions of the workload and its Pods say about why it did not recover.
        says: Option<&'a str>,
        /// Whether the checks of the steady state held in the meantime.
        hypotheses: &'a [EndedHypothesis],
    },
    /// A check of the steady state broke during a recovery.
    HypothesisBroken {
        /// The workload that recovers.
        workload: &'a WorkloadReference,
        /// The name of the Pod that was killed.
        pod: &'a str,
        /// The UID of that Pod.
        pod_uid: &'a str,
        /// When the Pod was killed.
        killed: Timestamp,
        /// The name of the check.
        check: &'a str,
        /// The sample that did not hold.
        broken: &'a BrokenSample,
    },
    /// The whole cluster is halted, or the agent can't read whether it is.
    Halted {
        /// The text of the halt, or why it can't be read.
        text: &'a str,
        /// The UID of namespace `pure-chaos`. `None` if no Event should be written, because one
        /// already tells of this halt or the halt can't be read.
        untold: Option<&'a str>,
    },
    /// The halt of the whole cluster ended.
    HaltEnded {
        /// The UID of namespace `pure-chaos`. `None` if no Event told of the halt.
        untold: Option<&'a str>,
    },
}

/// What the agent reports about a fact that happened at `at`.
#[must_use]
pub fn tellings(namespace: &str, fact: &Fact<'_>, at: Timestamp) -> Tellings {
    match *fact {
        Fact::Tried { victim, mode, how, attempt } => of_try(namespace, victim, (mode, how), attempt, at),
        Fact::FoundOut { kill, mode, is_killed } => of_find(namespace, kill, mode, is_killed, at),
        Fact::Round { slot, report, namespace_uid, told } => Tellings {
            lines: vec![of_round(slot, report)],
            counts: std::iter::once(Count::Round(report.outcome))
                .chain(report.reasons.iter().copied().map(Count::Refusal))
                .collect(),
            events: untold(report, told)
                .iter()
                .filter_map(|refusal| events::refused(namespace, namespace_uid, refusal))
                .collect(),
            entries: decisions(report, namespace, at),
        },
        Fact::Skipped { slot, reason } => Tellings {
            lines: vec![Line {
                is_warning: true,
                message: "skipped a slot",
                slot: Some(slot.to_string()),
                sentence: Some(reason.to_owned()),
                ..Line::default()
            }],
            entries: vec![skipped(namespace, slot, reason, at)],
            ..Tellings::default()
        },
        Fact::RecordRefused { sentence, namespace_uid } => Tellings {
            events: vec![events::record_refused(namespace, namespace_uid, sentence)],
            ..Tellings::default()
        },
        Fact::RecoveryEnded { recovery, outcome, duration, says, hypotheses } => {
            of_recovery(namespace, recovery, (outcome, duration), says, hypotheses, at)
        }
        Fact::HypothesisBroken { workload, pod, pod_uid, killed, check, broken } => {
            of_break(namespace, (workload, pod, pod_uid), killed, (check, broken), at)
        }
        Fact::Halted { text, untold } => Tellings {
            lines: vec![Line {
                is_warning: true,
                message: "every kill is halted",
                sentence: Some(text.to_owned()),
                ..Line::default()
            }],
            events: untold.map(|uid| events::halted(SYSTEM_NAMESPACE, uid, text)).into_iter().collect(),
            ..Tellings::default()
        },
        Fact::HaltEnded { untold } => Tellings {
            lines: vec![Line { message: "the halt ended", ..Line::default() }],
            events: untold.map(|uid| events::resumed(SYSTEM_NAMESPACE, uid)).into_iter().collect(),
            ..Tellings::default()
        },
    }
}

fn of_try(
    namespace: &str,
    victim: &Candidate,
    (mode, how): (Mode, &str),
    attempt: &Attempt,
    at: Timestamp,
) -> Tellings {
    let workload = &victim.workload.reference;
    let (pod, uid) = (&victim.pod.name, &victim.pod.uid);
    let line = Line {
        workload: Some(workload.clone()),
        pod: Some(pod.clone()),
        uid: Some(uid.clone()),
        ..Line::default()
    };
    let done = Line { mode: Some(mode.word()), ..line.clone() };
    let (line, counts, events) = match attempt {
        Attempt::Killed => (
            Line { message: "killed", ..done },
            vec![Count::Kill(workload.clone(), mode)],
            events::killed(namespace, workload, pod, uid, how).into(),
        ),
        Attempt::DryRun => (Line { message: "dry_run: would have killed", ..done }, Vec::new(), Vec::new()),
        // The Events of refusals come with the round, because a refusal that stays the same is not
        // told again.
        Attempt::Refused(refusal, sentence) => {
            let reason = Some(refusal.label());
            let sentence = Some(sentence.clone());
            (Line { message: "refused", reason, sentence, ..line }, Vec::new(), Vec::new())
        }
        Attempt::Failed(failure, sentence) => {
            let reason = Some(failure.label());
            let sentence = Some(sentence.clone());
            let line = Line { is_warning: true, message: "failed to kill", reason, sentence, ..line };
            (line, vec![Count::Failure(*failure)], Vec::new())
        }
        Attempt::NotLeading => {
            let message = "not killed: this process lost the Lease";
            (Line { is_warning: true, message, ..line }, Vec::new(), Vec::new())
        }
    };
    let entries = tried(namespace, victim, how, attempt, at).into_iter().collect();
    Tellings { lines: vec![line], counts, events, entries }
}

fn of_find(namespace: &str, kill: &Pending, mode: Mode, is_killed: bool, at: Timestamp) -> Tellings {
    let Pending { pod, uid, workload, .. } = kill;
    let line = Line {
        workload: Some(workload.clone()),
        pod: Some(pod.clone()),
        uid: Some(uid.clone()),
        mode: Some(mode.word()),
        ..Line::default()
    };
    if is_killed {
        let sentence = format!("mode {} (found out later)", mode.word());
        return Tellings {
            lines: vec![Line { message: "killed (found out later)", ..line }],
            counts: vec![Count::Kill(workload.clone(), mode)],
            events: events::killed(namespace, workload, pod, uid, mode.word()).into(),
            entries: vec![found_out(namespace, kill, DecisionKind::Killed, sentence, at)],
        };
    }
    let sentence = "not killed (found out later)".to_owned();
    Tellings {
        lines: vec![Line { message: "not killed (found out later)", ..line }],
        entries: vec![found_out(namespace, kill, DecisionKind::Nothing, sentence, at)],
        ..Tellings::default()
    }
}

fn of_round(slot: Timestamp, report: &RoundReport) -> Line {
    let reasons: Vec<&str> = report.reasons.iter().map(|reason| reason.label()).collect();
    Line {
        message: "round ended",
        slot: Some(slot.to_string()),
        outcome: Some(report.outcome.label()),
        outage: report.outage.as_ref().map(ToString::to_string),
        kills: Some(report.kills.len()),
        reasons: Some(reasons.join(",")),
        sentence: Some(report.sentence.clone()),
        ..Line::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::examples::{pod, workload};
    use crate::refusal::Refusal;
    use crate::round::kill::Failure;
    use std::collections::BTreeSet;

    fn victim() -> Candidate {
        let (pod, workload) = (pod("web-1"), workload("Deployment", "web", 3));
        Candidate { pod, workload, steady_state: 3, others: BTreeSet::new(), narrowing: None }
    }

    /// What a fact produces: log messages, the number of metric changes, reasons of Events, words
    /// of the status page.
    fn of(fact: &Fact<'_>) -> (Vec<&'static str>, usize, Vec<&'static str>, Vec<&'static str>) {
        let Tellings { lines, counts, events, entries } = tellings("a", fact, Timestamp::UNIX_EPOCH);
        (
            lines.iter().map(|line| line.message).collect(),
            counts.len(),
            events.iter().map(|event| event.reason).collect(),
            entries.iter().map(|entry| entry.what.word()).collect(),
        )
    }

    #[test]
    fn a_try_is_told_to_all_by_what_came_of_it() {
        let victim = victim();
        let sentence = || "because".to_owned();
        for (attempt, expected) in [
            (Attempt::Killed, (vec!["killed"], 1, vec!["ChaosKilled", "ChaosKilled"], vec!["killed"])),
            (Attempt::DryRun, (vec!["dry_run: would have killed"], 0, vec![], vec!["dry_run"])),
            (Attempt::Refused(Refusal::Changed, sentence()), (vec!["refused"], 0, vec![], vec!["refused"])),
            (
                Attempt::Failed(Failure::ServerError, sentence()),
                (vec!["failed to kill"], 1, vec![], vec!["failed"]),
            ),
            (Attempt::NotLeading, (vec!["not killed: this process lost the Lease"], 0, vec![], vec![])),
        ] {
            assert_eq!(
                of(&Fact::Tried { victim: &victim, mode: Mode::Evict, how: "evict", attempt: &attempt }),
                expected
            );
        }
    }

    #[test]
    fn what_was_found_out_later_is_told_like_the_kill_itself() {
        let kill = Pending {
            pod: "web-1".to_owned(),
            uid: "u".to_owned(),
            workload: victim().workload.reference,
            time: String::new(),
            steady_state: 3,
            others: Vec::new(),
            node: None,
            deadline: None,
            checks: Vec::new(),
        };
        let found = |is_killed| of(&Fact::FoundOut { kill: &kill, mode: Mode::Evict, is_killed });
        assert_eq!(
            found(true),
            (vec!["killed (found out later)"], 1, vec!["ChaosKilled", "ChaosKilled"], vec!["killed"])
        );
        assert_eq!(found(false), (vec!["not killed (found out later)"], 0, vec![], vec!["nothing"]));
    }

    #[test]
    fn a_halt_and_its_end_are_told_as_often_as_they_change() {
        let halted = |untold| of(&Fact::Halted { text: "4711", untold });
        assert_eq!(halted(Some("uid")), (vec!["every kill is halted"], 0, vec!["ChaosHalted"], vec![]));
        assert_eq!(halted(None).2, Vec::<&str>::new());
        assert_eq!(
            of(&Fact::HaltEnded { untold: Some("uid") }),
            (vec!["the halt ended"], 0, vec!["ChaosResumed"], vec![])
        );
    }
}

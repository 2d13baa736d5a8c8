//! One round: observe, check, select, kill. What recovers afterwards is the caller's.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use policy::record::{Intent, OptIn, Pending, WorkloadReference};
use policy::schedule::Timetable;
use policy::settings::Settings;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::decisions::tried;
use crate::deps::Deps;
use crate::guards::{Candidate, Circumstances, screen};
use crate::kill::{Attempt, Failure, Warrant, kill};
use crate::ledger::Ledger;
use crate::metrics::RoundOutcome;
use crate::observe::{NotPermitted, ObserveError, authority, observe};
use crate::permission::Forbidden;
use crate::recovery::Kill;
use crate::refusal::Refusal;
use crate::report::RoundReport;
use crate::select::{keep_due, select_victims};
use crate::slots::Serve;

/// What a round is given.
#[derive(Debug)]
pub struct Occasion<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The slot that is due.
    pub serve: Serve<'a>,
    /// Whether the namespace's Pods are being watched: without that no recovery could be measured.
    pub is_watched: bool,
    /// UIDs of workloads with a pending recovery.
    pub pending: &'a BTreeSet<String>,
    /// The end of the process: no victim after it.
    pub end: &'a CancellationToken,
}

/// Serves one slot.
pub async fn round(
    deps: &Deps,
    occasion: &Occasion<'_>,
    ledger: &mut Ledger,
    rng: &mut impl Rng,
) -> RoundReport {
    let Occasion { namespace, serve, is_watched, pending, end: _ } = occasion;
    let Serve { slot, timetable, dry_run } = *serve;
    let now = deps.clock.wall();
    // Live, not from the watch: the record and the Namespaces (client required).
    let record = match ledger.read().await {
        Ok(record) => record,
        Err(error) => {
            return RoundReport::failed(format!(
                "failed to read the record of namespace {namespace}: {error}"
            ));
        }
    };
    ledger.adopt(&record);
    if let Some(intent) = ledger.intent() {
        return RoundReport::failed(format!(
            "it isn't known yet whether Pod {} was killed in the last round",
            intent.kill.pod
        ));
    }
    let mut settings = match authority(&deps.client, namespace).await.permits(&record.spec, &deps.policy, now)
    {
        Ok(settings) => settings,
        Err(NotPermitted::Refused(forbidden)) => return RoundReport::refused(forbidden),
        Err(NotPermitted::Unreadable(sentence)) => return RoundReport::failed(sentence),
    };
    settings.dry_run |= dry_run;
    let is_stale =
        |timetable: &Timetable| settings.timetable(deps.policy.ceilings.shortest_interval) != *timetable;
    if timetable.is_some_and(is_stale) {
        return RoundReport::failed("the schedule has changed since this slot was computed".to_owned());
    }
    // The Pods, what they belong to, and their budgets (client required).
    let observation = match observe(&deps.client, namespace, deps.reads_nodes.load(Ordering::Relaxed)).await {
        Ok(observation) => observation,
        Err(error) if error.is_forbidden() => return RoundReport::refused(no_rights(namespace, &error)),
        Err(error) => return RoundReport::failed(error.to_string()),
    };
    if !is_watched {
        return RoundReport::failed("the Pods could not be watched yet".to_owned());
    }
    // Guards and choice (no client required).
    let backing_off = ledger.backing_off(now);
    let circumstances = Circumstances {
        now: deps.clock.wall(),
        settings: &settings,
        pending,
        backing_off: &backing_off,
        resting: &ledger.resting(now),
    };
    let mut screening = screen(&observation, &circumstances);
    let allowed = screening.candidates.len();
    if let Some(timetable) = timetable {
        keep_due(&mut screening.candidates, timetable, &record.spec.namespace_uid, slot);
    }
    let is_waiting = allowed > 0 && screening.candidates.is_empty();
    let victims = select_victims(&screening.candidates, settings.limit, rng);
    // Spend the slot, then kill (client required).
    let mut report = RoundReport::new(RoundOutcome::NoCandidate, String::new());
    if !victims.is_empty() {
        let spent = if dry_run {
            Ok(true)
        } else {
            ledger.spend(slot, &record, intent(slot, &settings, victims[0], deps.clock.wall())).await
        };
        match spent {
            Ok(true) => kill_each(deps, occasion, &settings, &record, &victims, ledger, &mut report).await,
            Ok(false) => return RoundReport::failed(format!("slot {slot} was served before")),
            Err(error) => return RoundReport::failed(format!("failed to spend slot {slot}: {error}")),
        }
    }
    report.is_waiting = is_waiting && screening.refused.is_empty();
    report.explain(namespace, &screening.refused, &screening.candidates);
    report.observation = Some(observation);
    report
}

async fn kill_each(
    deps: &Deps,
    occasion: &Occasion<'_>,
    settings: &Settings,
    record: &OptIn,
    victims: &[&Candidate],
    ledger: &mut Ledger,
    report: &mut RoundReport,
) {
    let Occasion { namespace, serve: Serve { slot, dry_run, .. }, end, .. } = *occasion;
    let warrant = Warrant {
        namespace,
        record: &record.spec,
        policy: &deps.policy,
        clock: &*deps.clock,
        leadership: &deps.leadership,
        dry_run,
    };
    let mut refusals = 0;
    for victim in victims {
        if end.is_cancelled() {
            break;
        }
        let WorkloadReference { kind, name, uid: workload_uid } = &victim.workload.reference;
        let (pod, uid) = (victim.pod.name.as_str(), victim.pod.uid.as_str());
        let mode = settings.mode;
        let attempt = if deps.budget.spend(deps.clock.monotonic()) {
            let intended = match intent(slot, settings, victim, deps.clock.wall()) {
                Some(intent) => ledger.intend(intent).await,
                None => Ok(()),
            };
            match intended {
                Ok(()) => kill(&deps.client, warrant, victim).await,
                Err(error) => {
                    let sentence = format!("failed to write down that Pod {pod} is to be killed: {error}");
                    Attempt::Failed(Failure::ServerError, sentence)
                }
            }
        } else {
            let most = deps.policy.kills_per_minute;
            let sentence = format!(
                "the whole cluster has had its {most} kills of this minute, the platform's killsPerMinute"
            );
            Attempt::Refused(Refusal::BudgetSpent, sentence)
        };
        let is_unknown = matches!(attempt, Attempt::Failed(Failure::UnknownOutcome, _));
        if !is_unknown {
            // Of a kill that was done the result follows below.
            ledger.settled();
        }
        report.tried.extend(tried(namespace, victim, mode, &attempt, deps.clock.wall()));
        match attempt {
            Attempt::Killed => {
                let kill = Kill {
                    candidate: (*victim).clone(),
                    answered: deps.clock.monotonic(),
                    at: deps.clock.wall(),
                    deadline: settings.recovery_deadline,
                };
                // At once: this process may end before the round does.
                ledger.killed(kill.pending());
                let now = deps.clock.monotonic();
                if deps.leadership.holds(now) {
                    ledger.save(namespace, now).await;
                }
                report.kills.push(kill);
                deps.metrics.kill(namespace, &victim.workload.reference, mode);
                deps.events.killed(namespace, &victim.workload.reference, pod, uid, mode);
                tracing::info!(namespace, workload_kind = kind, workload = name, pod, uid, %mode, "killed");
            }
            Attempt::DryRun => {
                report.dry_runs.push((*victim).clone());
                tracing::info!(namespace, workload_kind = kind, workload = name, pod, uid, %mode, "dry_run: would have killed");
            }
            Attempt::Refused(refusal, sentence) => {
                refusals += 1;
                report.reasons.insert(refusal);
                report.refused.insert(victim.workload.reference.clone(), refusal);
                if refusal == Refusal::Changed {
                    report.changed.push(workload_uid.clone());
                }
                let reason = refusal.label();
                tracing::info!(
                    namespace,
                    workload_kind = kind,
                    workload = name,
                    pod,
                    uid,
                    reason,
                    sentence,
                    "refused"
                );
                report.sentence = sentence;
            }
            Attempt::NotLeading => {
                tracing::warn!(
                    namespace,
                    workload_kind = kind,
                    workload = name,
                    pod,
                    uid,
                    "not killed: this process leads no longer"
                );
                report.sentence = "this process leads no longer".to_owned();
                break;
            }
            Attempt::Failed(failure, sentence) => {
                deps.metrics.kill_failure(namespace, failure);
                if matches!(failure, Failure::ServerError | Failure::UnknownOutcome) {
                    // It may yet have been killed.
                    report.changed.push(workload_uid.clone());
                }
                let reason = failure.label();
                tracing::warn!(
                    namespace,
                    workload_kind = kind,
                    workload = name,
                    pod,
                    uid,
                    reason,
                    sentence,
                    "failed to kill"
                );
                report.sentence = sentence;
            }
        }
        if is_unknown {
            // The record holds one intent, and that one is needed.
            break;
        }
    }
    report.outcome = if !report.kills.is_empty() {
        report.sentence = String::new();
        RoundOutcome::Killed
    } else if !report.dry_runs.is_empty() {
        let pods: Vec<&str> = report.dry_runs.iter().map(|victim| victim.pod.name.as_str()).collect();
        report.sentence = format!("would have been killed: {}", pods.join(", "));
        RoundOutcome::DryRun
    } else if refusals > 0 {
        RoundOutcome::Refused
    } else {
        RoundOutcome::Failed
    };
}

/// The intent to kill a Pod, as it is written down before; none for a dry run.
fn intent(slot: Timestamp, settings: &Settings, victim: &Candidate, now: Timestamp) -> Option<Intent> {
    (!settings.dry_run).then(|| Intent {
        slot: slot.to_string(),
        mode: settings.mode.word().to_owned(),
        kill: Pending {
            pod: victim.pod.name.clone(),
            uid: victim.pod.uid.clone(),
            workload: victim.workload.reference.clone(),
            time: now.to_string(),
            steady_state: i64::from(victim.steady_state),
        },
    })
}

fn no_rights(namespace: &str, error: &ObserveError) -> Forbidden {
    Forbidden {
        refusal: Refusal::NoRights,
        sentence: format!("the agent lacks a right in namespace {namespace}: {error}"),
    }
}

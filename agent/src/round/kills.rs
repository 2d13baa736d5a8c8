//! The kills of one round, one after the other, and the result of each.

use std::time::Duration;

use policy::record::{Intent, OptInSpec};
use policy::settings::{Mode, Settings};
use tokio::time::Instant;

use super::{Look, RoundInput, budget_spent, chosen, intent};
use crate::cluster::live_consent::{NotPermitted, authority, is_going};
use crate::context::Context;
use crate::guard::namespace::{Forbidden, without_right};
use crate::guard::pods::{Candidate, GuardContext, Killed, screen_again};
use crate::guard::rate_limit::Reserved;
use crate::recovery::Kill;
use crate::refusal::Refusal;
use crate::round::kill::{Attempt, Failure, KillContext, kill};
use crate::round::outage::Outage;
use crate::round::report::RoundReport;
use crate::status::StatusWriter;
use crate::steady_state::permits;
use crate::steady_state::sampler::Broken;
use crate::telemetry::decision_log::tried;
use crate::telemetry::fact::Fact;
use crate::telemetry::metrics::RoundOutcome;

/// How old the look may be when an attempt begins. An earlier kill or the write of the record may
/// have taken long. If the look is older, the round looks again.
///
/// [`kill`] reads the Namespaces and the Pod live once more. It does not read the Pod's workload,
/// the PodDisruptionBudgets and the other Pods again. So an exclusion that somebody sets on the
/// workload counts from the next look on. Until then the agent can still kill a Pod of that
/// workload: for the time of the look itself, this duration, and the calls of the attempt. An
/// exclusion on the Pod counts up to the last read of the Pod.
const STALE: Duration = Duration::from_secs(1);

/// What all kills of a round have in common.
pub(super) struct Kills<'a> {
    pub context: &'a Context,
    pub round_input: &'a RoundInput<'a>,
    pub settings: &'a Settings,
    pub record: &'a OptInSpec,
    /// The input of the guards at the beginning of the round.
    pub guard_context: &'a GuardContext<'a>,
    /// The Pods that this round has killed.
    pub killed: Killed,
    /// The outage that the round makes, if it makes one.
    pub outage: Option<&'a Outage>,
    pub look: Look,
    /// When the agent last began to request a kill.
    pub asked: Instant,
}

impl Kills<'_> {
    /// Tries to kill each victim in turn. It stops when the process is about to end or no longer
    /// leads. `first` holds the reservations of the first kills, and the intent of the first one.
    pub async fn each(
        &mut self,
        victims: &[&Candidate],
        (mut reserved, mut first): (Vec<Reserved>, Option<Intent>),
        status_writer: &mut StatusWriter,
        report: &mut RoundReport,
    ) {
        let clock = &self.context.clock;
        let mut refusals = 0;
        for victim in victims {
            let steady = self.is_still_steady(report).await;
            let decided = first.take();
            let reserved = reserved.pop().or_else(|| self.context.budget.reserve(clock.monotonic()));
            let uid = victim.pod.uid.as_str();
            if self.round_input.end.is_cancelled() {
                status_writer.settled(uid);
                "this process is about to end".clone_into(&mut report.sentence);
                break;
            }
            let mut candidate = (*victim).clone();
            let attempt = match (steady, &reserved) {
                (Err(forbidden), _) => forbidden.into(),
                _ if report.changed.contains(&victim.workload.reference.uid) => Attempt::Refused(
                    Refusal::Changed,
                    "an earlier kill of this round in the workload met a change or had no clear answer"
                        .to_owned(),
                ),
                (Ok(()), Some(_)) => self.attempt(&mut candidate, decided, status_writer).await,
                (Ok(()), None) => budget_spent(self.context, None, 1).into(),
            };
            let is_unknown = matches!(attempt, Attempt::Failed(Failure::UnknownOutcome, _));
            if !is_unknown && attempt != Attempt::Killed {
                status_writer.settled(uid);
            }
            if attempt == Attempt::Killed {
                let workload = victim.workload.reference.uid.clone();
                self.killed.entry(workload).or_default().insert(uid.to_owned());
            }
            if let Some(reserved) = reserved.filter(|_| is_unknown || attempt == Attempt::Killed) {
                reserved.spend(clock.monotonic());
            }
            if !matches!(attempt, Attempt::Refused(Refusal::BudgetSpent, _)) {
                let owed = report.owed.get_or_insert_default();
                owed.remove(&victim.workload.reference.uid);
            }
            refusals += usize::from(matches!(attempt, Attempt::Refused(..)));
            if !self.note(candidate, attempt, status_writer, report).await {
                break;
            }
        }
        report.outcome = if !report.kills.is_empty() {
            report.sentence = String::new();
            RoundOutcome::Killed
        } else if !report.dry_runs.is_empty() {
            let pods: Vec<&str> = report.dry_runs.iter().map(|victim| victim.pod.name.as_str()).collect();
            report.sentence = format!("the round would have killed: {}", pods.join(", "));
            RoundOutcome::DryRun
        } else if refusals > 0 {
            RoundOutcome::Refused
        } else {
            RoundOutcome::Failed
        };
    }

    /// Whether the checks still hold after the kills of this round so far. The round asks them
    /// again before each further victim, unless `abort-on-broken` is `false`.
    async fn is_still_steady(&self, report: &RoundReport) -> Result<(), Forbidden> {
        let Some(last) = report.kills.last() else { return Ok(()) };
        let Some(chosen) = self.settings.steady_state.as_ref().filter(|_| self.settings.abort_on_broken)
        else {
            return Ok(());
        };
        let RoundInput { namespace, sampler, .. } = self.round_input;
        let is_of_round =
            |uid: &str| report.kills.iter().any(|kill| kill.candidate.workload.reference.uid == uid);
        if let Some(Broken { check, saw }) = sampler.broken(is_of_round) {
            let sentence = format!("check `{check}` broke after a kill of this round: {saw}");
            return Err(Forbidden { refusal: Refusal::NotSteady, sentence });
        }
        let after_it = last.answered + Duration::from_nanos(1);
        let findings = self.context.prober.ask(namespace, chosen, Some(after_it)).await;
        permits(&findings)
    }

    /// Tries to kill a victim. Updates `victim` to what the agent last saw of it.
    async fn attempt(
        &mut self,
        victim: &mut Candidate,
        decided: Option<Intent>,
        status_writer: &mut StatusWriter,
    ) -> Attempt {
        let RoundInput { namespace, serve, .. } = *self.round_input;
        if let Err(attempt) = self.look_again(victim).await {
            return attempt;
        }
        let decided =
            decided.or_else(|| intent(serve.slot, self.settings, victim, self.context.clock.wall()));
        if let Some(intent) = decided
            && let Err(error) = status_writer.intend(intent).await
        {
            // The webhook may have written that the owner halted or opted out.
            let now = self.context.clock.wall();
            let authority = authority(&self.context.client, namespace).await;
            if let Err(NotPermitted::Refused(forbidden)) =
                authority.permits(self.record, &self.context.policy, now)
            {
                return forbidden.into();
            }
            let pod = &victim.pod.name;
            let sentence = format!("failed to write the intent to kill Pod {pod} to the record: {error}");
            return Attempt::Failed(Failure::ServerError, sentence);
        }
        let guard_context = GuardContext { killed: &self.killed, ..*self.guard_context };
        let kill_context = KillContext {
            namespace,
            record: self.record,
            policy: &self.context.policy,
            clock: &*self.context.clock,
            leadership: &self.context.leadership,
            dry_run: serve.dry_run,
            observation: &self.look.observation,
            guard_context: &guard_context,
        };
        kill(&self.context.client, kill_context, victim, &mut self.asked).await
    }

    /// Looks at the namespace again if the last look is too old, and then asks the guards again.
    async fn look_again(&mut self, victim: &mut Candidate) -> Result<(), Attempt> {
        if self.context.clock.monotonic() - self.look.at <= STALE {
            return Ok(());
        }
        let namespace = self.round_input.namespace;
        self.look = match Look::take(self.context, namespace, self.settings).await {
            Ok(look) => look,
            Err(error) if error.is_forbidden() => {
                let is_going = is_going(&self.context.client, namespace).await;
                return Err(without_right(namespace, is_going, &error).into());
            }
            Err(error) => return Err(Attempt::Failed(Failure::ServerError, error.to_string())),
        };
        let observation = &self.look.observation;
        let name = &victim.pod.name;
        let Some(pod) = observation.pods.iter().find(|pod| pod.uid == victim.pod.uid) else {
            return Err(Attempt::Refused(Refusal::Changed, format!("Pod {name} is gone")));
        };
        let guard_context = GuardContext { killed: &self.killed, ..*self.guard_context };
        *victim = screen_again(pod, observation, &guard_context).map_err(|refusal| {
            let sentence = format!("Pod {name} has changed since it was chosen: {}", refusal.meaning());
            Attempt::Refused(refusal, sentence)
        })?;
        Ok(())
    }

    /// Reports and records the result of an attempt. Returns false if the round must not try
    /// another kill.
    async fn note(
        &self,
        victim: Candidate,
        attempt: Attempt,
        status_writer: &mut StatusWriter,
        report: &mut RoundReport,
    ) -> bool {
        let (context, namespace) = (self.context, self.round_input.namespace);
        let narrowed = victim.narrowed(self.settings);
        let mode = narrowed.mode;
        let workload = victim.workload.reference.clone();
        let how = how(mode, self.outage);
        context.tell(namespace, &Fact::Tried { victim: &victim, mode, how: &how, attempt: &attempt });
        report.tried.extend(tried(namespace, &victim, &how, &attempt, context.clock.wall()));
        match attempt {
            Attempt::Killed => {
                let kill = Kill {
                    candidate: victim,
                    asked: self.asked,
                    answered: context.clock.monotonic(),
                    at: context.clock.wall(),
                    deadline: narrowed.recovery_deadline,
                    checks: chosen(self.settings),
                };
                self.round_input.sampler.begin(&kill);
                // Writes the kill at once, because this process may end before the round does.
                status_writer.killed(kill.pending(), kill.at);
                let now = context.clock.monotonic();
                if context.leadership.holds(now) {
                    status_writer.save(namespace, now).await;
                }
                report.kills.push(kill);
            }
            Attempt::DryRun => report.dry_runs.push(victim),
            Attempt::Refused(refusal, sentence) => {
                report.reasons.insert(refusal);
                if refusal == Refusal::Changed {
                    report.changed.push(workload.uid.clone());
                }
                report.refused.insert(workload, refusal);
                report.sentence = sentence;
            }
            Attempt::NotLeading => {
                report.sentence = "this process lost the Lease".to_owned();
                return false;
            }
            Attempt::Failed(failure, sentence) => {
                if matches!(failure, Failure::ServerError | Failure::UnknownOutcome) {
                    // The Pod may still have been killed, and the PodDisruptionBudget may have been
                    // charged.
                    report.changed.push(workload.uid.clone());
                }
                report.failed.insert(workload, (failure, sentence.clone()));
                report.sentence = sentence;
            }
        }
        true
    }
}

/// How a Pod is killed, in a few words: the mode, and the outage if it is part of one.
fn how(mode: Mode, outage: Option<&Outage>) -> String {
    outage.map_or_else(|| mode.word().to_owned(), |outage| format!("{}, {outage}", mode.word()))
}

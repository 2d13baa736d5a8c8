//! One round in one namespace: look at it, ask the guards, select victims, kill them. The caller
//! measures the recoveries.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use policy::faults::Fault;
use policy::record::{Intent, WorkloadReference};
use policy::schedule::Timetable;
use policy::settings::Settings;
use policy::steady_state::CheckNames;
use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::list::ListError;
use crate::cluster::live_consent::{NotPermitted, authority, is_going};
use crate::cluster::observe::{Nodes, observe};
use crate::cluster::pod_watch::PodWatch;
use crate::cluster::snapshot::NamespaceSnapshot;
use crate::context::Context;
use crate::guard::namespace::{Forbidden, after, without_right};
use crate::guard::places::keep_spread;
use crate::guard::pods::{Candidate, GuardContext, Killed, narrowed_schedules, screen};
use crate::recovery::pending::pending;
use crate::refusal::Refusal;
use crate::round::due::DueSlot;
use crate::round::outage::{Outage, select_place};
use crate::round::report::RoundReport;
use crate::round::select::{Most, Turns, select_victims};
use crate::status::StatusWriter;
use crate::steady_state;
use crate::steady_state::sampler::Sampler;
use crate::telemetry::metrics::RoundOutcome;

pub mod due;
pub mod kill;
mod kills;
pub mod outage;
pub mod report;
pub mod select;

use kills::Kills;

/// The input of a round.
pub struct RoundInput<'a> {
    /// The name of the namespace.
    pub namespace: &'a str,
    /// The slot that is due.
    pub serve: DueSlot<'a>,
    /// The watch of the namespace's Pods, once it has listed them. Without it the round kills
    /// nothing, because no recovery could be measured.
    pub watch: Option<&'a PodWatch>,
    /// Samples the checks of the steady state from the first kill on.
    pub sampler: &'a Sampler,
    /// UIDs of workloads with a pending recovery.
    pub pending: &'a BTreeSet<String>,
    /// UIDs of workloads that are owed a turn of an `mtbf` schedule.
    pub owed: &'a BTreeSet<String>,
    /// Cancelled when the process ends. The round then kills no further Pod.
    pub end: &'a CancellationToken,
}

/// A snapshot of the namespace, and when it was complete.
#[derive(Debug)]
struct Look {
    observation: NamespaceSnapshot,
    at: Instant,
}

impl Look {
    async fn take(context: &Context, namespace: &str, settings: &Settings) -> Result<Self, ListError> {
        let may_read = context.reads_nodes.load(Ordering::Relaxed);
        let needs_zones = settings.faults.all().contains(&Fault::ZoneOutage);
        let nodes = Nodes { cordoned: may_read, zones: may_read && needs_zones };
        let observation = observe(&context.client, namespace, nodes, &context.policy.workloads).await?;
        Ok(Self { observation, at: context.clock.monotonic() })
    }
}

/// Serves one slot.
pub async fn round(
    context: &Context,
    round_input: &RoundInput<'_>,
    status_writer: &mut StatusWriter,
    rng: &mut impl Rng,
) -> RoundReport {
    let RoundInput { namespace, serve, watch, pending, owed, .. } = round_input;
    let DueSlot { slot, timetable, dry_run } = *serve;
    let now = context.clock.wall();
    // Reads the record and the Namespaces live, because a watch may lag behind. Needs the client.
    let record = match status_writer.read().await {
        Ok(record) => record,
        Err(error) => {
            return RoundReport::failed(format!(
                "failed to read the record of namespace {namespace}: {error}"
            ));
        }
    };
    let mut settings =
        match authority(&context.client, namespace).await.permits(&record.spec, &context.policy, now) {
            Ok(settings) => settings,
            Err(NotPermitted::Refused(forbidden)) => {
                return RoundReport::refused(after(status_writer.state(), namespace, forbidden));
            }
            Err(NotPermitted::Unreadable(sentence)) => return RoundReport::failed(sentence),
        };
    settings.dry_run |= dry_run;
    let is_stale =
        |timetable: &Timetable| settings.timetable(context.policy.ceilings.shortest_interval) != *timetable;
    if timetable.is_some_and(is_stale) {
        return RoundReport::failed("the schedule has changed since this slot was computed".to_owned());
    }
    // Lists the Pods, the workloads they belong to, and the PodDisruptionBudgets. Needs the client.
    let look = match Look::take(context, namespace, &settings).await {
        Ok(look) => look,
        Err(error) if error.is_forbidden() => {
            let is_going = is_going(&context.client, namespace).await;
            return RoundReport::refused(without_right(namespace, is_going, &error));
        }
        Err(error) => return RoundReport::failed(error.to_string()),
    };
    let Some(watch) = watch.filter(|watch| watch.is_open(context.clock.monotonic())) else {
        return RoundReport::failed(
            "the agent does not watch the Pods at the moment, so it could not measure a recovery".to_owned(),
        );
    };
    if !watch.catches_up(&look.observation.pods).await {
        return RoundReport::failed(
            "the watch of the Pods lags behind the API server, so the agent starts a new watch".to_owned(),
        );
    }
    // Asks the guards and selects victims. Needs no client.
    let mut pending = (*pending).clone();
    pending.extend(status_writer.open());
    let guard_context = GuardContext {
        now: context.clock.wall(),
        settings: &settings,
        pending: &pending,
        backing_off: &status_writer.backing_off(now),
        resting: &status_writer.resting(now),
        killed: &Killed::new(),
    };
    let mut screening = screen(&look.observation, &guard_context);
    let fault = outage::draw(&settings.faults, rng);
    if fault != Fault::PodKill {
        keep_spread(&mut screening, &look.observation, fault, &settings);
    }
    let allowed: BTreeSet<WorkloadReference> =
        screening.candidates.iter().map(|candidate| candidate.workload.reference.clone()).collect();
    let narrowed = narrowed_schedules(&look.observation, &settings);
    let turns =
        Turns { timetable, namespace_uid: &record.spec.namespace_uid, slot, narrowed: &narrowed, owed };
    let kept = turns.kept(&screening);
    let takes_part = |candidate: &Candidate| turns.has(&candidate.workload.reference.uid);
    let is_waiting = !allowed.is_empty() && !screening.candidates.iter().any(takes_part);
    let (outage, victims) = if fault == Fault::PodKill {
        screening.candidates.retain(takes_part);
        let most = Most { settings: &settings, ceilings: &context.policy.ceilings };
        (None, select_victims(&screening.candidates, most, rng))
    } else {
        let selected = select_place(&screening.candidates, takes_part, fault, &look.observation, rng);
        selected.map_or_else(Default::default, |(outage, victims)| (Some(outage), victims))
    };
    // Asks the checks of the steady state, if anything would be killed. Needs the client.
    if let Some(chosen) = settings.steady_state.as_ref().filter(|_| !victims.is_empty())
        && let Err(forbidden) = steady_state::permits(&context.prober.ask(namespace, chosen, None).await)
    {
        return RoundReport { owed: Some(kept), ..RoundReport::refused(forbidden) };
    }
    // Reserves the first kill in the platform's budget, spends the slot, and then kills. Needs the
    // client. The slot is spent first so that no other process can serve it again.
    let mut report = RoundReport::new(RoundOutcome::NoCandidate, String::new());
    let mut look = look;
    if let Some(first) = victims.first() {
        // An outage takes all its victims or none.
        let at_once = if outage.is_some() { victims.len() } else { 1 };
        let Some(reserved) = context.budget.reserve_all(at_once, context.clock.monotonic()) else {
            let refused = RoundReport::refused(budget_spent(context, outage.as_ref(), at_once));
            let may_wait = at_once <= context.policy.kills_per_minute as usize;
            return RoundReport { is_deferred: may_wait, owed: Some(kept), ..refused };
        };
        let intent = intent(slot, &settings, first, context.clock.wall());
        let spent = if dry_run { Ok(true) } else { status_writer.spend(slot, intent.clone()).await };
        match spent {
            Ok(true) => {}
            Ok(false) => return RoundReport::failed(format!("slot {slot} was already served")),
            Err(error) => {
                return RoundReport::failed(format!("failed to write slot {slot} to the record: {error}"));
            }
        }
        report.owed = Some(kept);
        let mut kills = Kills {
            context,
            round_input,
            settings: &settings,
            record: &record.spec,
            guard_context: &guard_context,
            killed: Killed::new(),
            outage: outage.as_ref(),
            asked: look.at,
            look,
        };
        kills.each(&victims, (reserved, intent), status_writer, &mut report).await;
        look = kills.look;
    } else {
        report.owed = Some(kept);
    }
    report.outage = outage;
    report.is_waiting = is_waiting;
    report.explain(namespace, &screening.refused, &allowed);
    report.observation = Some(look.observation);
    report
}

/// The names of the checks that the namespace chose.
fn chosen(settings: &Settings) -> Vec<String> {
    settings.steady_state.iter().flat_map(CheckNames::iter).map(str::to_owned).collect()
}

/// The intent to kill a Pod, which the agent writes to the record before the kill. A dry run has no
/// intent.
fn intent(slot: Timestamp, settings: &Settings, victim: &Candidate, now: Timestamp) -> Option<Intent> {
    (!settings.dry_run).then(|| Intent {
        slot: slot.to_string(),
        mode: victim.narrowed(settings).mode.word().to_owned(),
        kill: pending(victim, now, &chosen(settings)),
    })
}

fn budget_spent(context: &Context, outage: Option<&Outage>, kills: usize) -> Forbidden {
    let most = context.policy.kills_per_minute;
    let sentence = match outage {
        Some(outage) => format!(
            "the {outage} would kill {kills} Pods at once, and the kills in the whole cluster may not \
             exceed the platform's killsPerMinute, which is {most}"
        ),
        None => format!(
            "the kills in the whole cluster have reached the platform's killsPerMinute, which is {most}"
        ),
    };
    Forbidden { refusal: Refusal::BudgetSpent, sentence }
}

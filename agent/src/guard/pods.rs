//! The guards of a Pod. They run in a fixed order, and each has a label. The first guard that
//! refuses decides.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use policy::narrowing::Narrowing;
use policy::record::WorkloadReference;
use policy::schedule::Schedule;
use policy::settings::{Mode, Settings};

use crate::cluster::snapshot::{NamespaceSnapshot, PodView, WorkloadView};
use crate::refusal::Refusal;

/// A Pod that no guard refused, and its current workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The Pod that may be killed.
    pub pod: PodView,
    /// The workload of the Pod.
    pub workload: WorkloadView,
    /// The number of the workload's Ready Pods or of its desired Pods, whichever is smaller.
    pub steady_state: u32,
    /// UIDs of the workload's other Pods, without those that are being deleted or have finished.
    pub others: BTreeSet<String>,
    /// What the Pod template narrows.
    pub narrowing: Option<Box<Narrowing>>,
}

impl Candidate {
    /// The settings of the namespace as they hold for this Pod.
    #[must_use]
    pub fn narrowed(&self, settings: &Settings) -> Settings {
        self.narrowing.as_ref().map_or_else(|| settings.clone(), |narrowing| narrowing.apply(settings))
    }
}

/// A Pod that a guard refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The Pod's name.
    pub pod: String,
    /// The Pod's UID.
    pub uid: String,
    /// The workload of the Pod, if it has one.
    pub workload: Option<WorkloadReference>,
    /// The reason.
    pub refusal: Refusal,
    /// A sentence that says what to look at. `None` if the meaning of the reason says enough.
    pub because: Option<String>,
}

impl Refused {
    /// Why the Pod is refused, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> &str {
        self.because.as_deref().unwrap_or_else(|| self.refusal.meaning())
    }
}

/// UIDs of the Pods that a round has killed, by the UID of their workload.
pub type Killed = BTreeMap<String, BTreeSet<String>>;

/// What the guards need to know besides the snapshot of the namespace.
#[derive(Debug, Clone, Copy)]
pub struct GuardContext<'a> {
    /// The current time of the wall clock.
    pub now: Timestamp,
    /// The namespace's settings.
    pub settings: &'a Settings,
    /// UIDs of workloads with a pending recovery.
    pub pending: &'a BTreeSet<String>,
    /// The workloads that rest because a recovery timed out or a check broke, by their UIDs, each with
    /// a sentence.
    pub backing_off: &'a BTreeMap<String, String>,
    /// UIDs of workloads that rest because a Pod changed during a kill, or because a kill had no
    /// clear answer.
    pub resting: &'a BTreeSet<String>,
    /// The Pods that this round has already killed. Their workloads lack them on purpose.
    pub killed: &'a Killed,
}

/// The result of asking the guards about every Pod of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screening {
    /// Pods that no guard refused.
    pub candidates: Vec<Candidate>,
    /// Pods that a guard refused.
    pub refused: Vec<Refused>,
}

/// Asks the guards about every Pod.
#[must_use]
pub fn screen(observation: &NamespaceSnapshot, guard_context: &GuardContext) -> Screening {
    let mut siblings: BTreeMap<String, Vec<&PodView>> = BTreeMap::new();
    let mut workloads = Vec::with_capacity(observation.pods.len());
    for pod in &observation.pods {
        let workload = observation.workload_of(pod);
        if let Some(workload) = &workload {
            siblings.entry(workload.reference.uid.clone()).or_default().push(pod);
        }
        workloads.push((pod, workload));
    }

    let mut screening = Screening::default();
    for (pod, workload) in workloads {
        let none = Vec::new();
        let all =
            workload.as_ref().and_then(|workload| siblings.get(&workload.reference.uid)).unwrap_or(&none);
        match assess(pod, workload.as_ref(), all, observation, guard_context) {
            Ok(candidate) => screening.candidates.push(candidate),
            Err(refusal) => screening.refused.push(Refused {
                because: match refusal {
                    Refusal::Excluded => exclusion(pod, workload.as_ref(), guard_context.settings),
                    Refusal::NotNarrower => narrowing(pod, guard_context.settings).err(),
                    Refusal::BackingOff => {
                        let uid = workload.as_ref().map(|workload| &workload.reference.uid);
                        uid.and_then(|uid| guard_context.backing_off.get(uid)).cloned()
                    }
                    Refusal::SizeUnknown => workload
                        .as_ref()
                        .and_then(|workload| workload.unknown_size.as_ref())
                        .map(|unknown| unknown.because.clone()),
                    _ => None,
                },
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                workload: workload.map(|workload| workload.reference),
                refusal,
            }),
        }
    }
    screening
}

/// A sentence that says why a Pod has to be left alone. `None` if neither the Pod nor its workload
/// nor the ReplicaSet between them has an exclusion that holds.
#[must_use]
pub fn exclusion(pod: &PodView, workload: Option<&WorkloadView>, settings: &Settings) -> Option<String> {
    let of_workload = workload.into_iter().flat_map(|workload| &workload.exclusions);
    let all = pod.exclusion.iter().map(|exclusion| ("the Pod", exclusion));
    let mut all = all.chain(of_workload.map(|(what, exclusion)| (*what, exclusion)));
    all.find(|(_, exclusion)| exclusion.holds(settings.targets.as_ref()))
        .map(|(what, exclusion)| exclusion.sentence(what))
}

/// What the Pod template narrows.
fn narrowing(pod: &PodView, settings: &Settings) -> Result<Option<Narrowing>, String> {
    pod.narrows.as_ref().map_or(Ok(None), |annotations| Narrowing::of(annotations, settings))
}

/// The schedules that Pod templates narrow, by the UID of the workload. If its Pods differ, the
/// rarest counts.
#[must_use]
pub fn narrowed_schedules(
    observation: &NamespaceSnapshot,
    settings: &Settings,
) -> BTreeMap<String, Schedule> {
    let mut narrowed: BTreeMap<String, Schedule> = BTreeMap::new();
    for pod in observation.pods.iter().filter(|pod| pod.narrows.is_some()) {
        let Ok(Some(Narrowing { schedule: Some(schedule), .. })) = narrowing(pod, settings) else { continue };
        let Some(workload) = observation.workload_of(pod) else { continue };
        let known = narrowed.entry(workload.reference.uid).or_insert_with(|| schedule.clone());
        if schedule.is_rarer_than(known) {
            *known = schedule;
        }
    }
    narrowed
}

/// Asks the guards about one Pod as it is now. Everything else is as in the snapshot.
///
/// # Errors
/// The reason of the first guard that refuses.
pub fn screen_again(
    live: &PodView,
    observation: &NamespaceSnapshot,
    guard_context: &GuardContext,
) -> Result<Candidate, Refusal> {
    let workload = observation.workload_of(live);
    let is_sibling = |pod: &&PodView| {
        let of = observation.workload_of(pod).map(|of| of.reference.uid);
        pod.uid != live.uid
            && of.is_some()
            && of == workload.as_ref().map(|workload| workload.reference.uid.clone())
    };
    let all: Vec<&PodView> = observation.pods.iter().filter(is_sibling).chain([live]).collect();
    assess(live, workload.as_ref(), &all, observation, guard_context)
}

/// Asks the guards about one Pod. `all` are the Pods of its workload, including the Pod itself.
fn assess(
    pod: &PodView,
    workload: Option<&WorkloadView>,
    all: &[&PodView],
    observation: &NamespaceSnapshot,
    guard_context: &GuardContext,
) -> Result<Candidate, Refusal> {
    let workload = workload.ok_or(Refusal::NoController)?;
    let killed = guard_context.killed.get(&workload.reference.uid);
    let is_killed = |pod: &PodView| killed.is_some_and(|killed| killed.contains(&pod.uid));
    let ready = all.iter().filter(|pod| pod.counts_as_ready() && !is_killed(pod)).count();
    let ready = u32::try_from(ready).unwrap_or(u32::MAX);
    let narrowing = narrowing(pod, guard_context.settings);
    if let Some(refusal) = check(pod, workload, ready, &narrowing, observation, guard_context) {
        return Err(refusal);
    }
    let others = all.iter().filter(|other| other.uid != pod.uid && !other.is_lost() && !is_killed(other));
    Ok(Candidate {
        pod: pod.clone(),
        steady_state: workload.desired.map_or(ready, |desired| desired.min(ready)),
        others: others.map(|other| other.uid.clone()).collect(),
        workload: workload.clone(),
        narrowing: narrowing.ok().flatten().map(Box::new),
    })
}

/// The reason of the first guard that refuses this Pod.
fn check(
    pod: &PodView,
    workload: &WorkloadView,
    ready: u32,
    narrowing: &Result<Option<Narrowing>, String>,
    observation: &NamespaceSnapshot,
    guard_context: &GuardContext,
) -> Option<Refusal> {
    let GuardContext { now, settings, pending, backing_off, resting, killed } = guard_context;
    let uid = &workload.reference.uid;
    let kind = workload.reference.kind.as_str();
    let age = now.duration_since(pod.created);
    // A Pod that was created in the future shows that a clock is wrong. The guard treats the Pod as
    // young.
    let is_young = std::time::Duration::try_from(age).map_or(true, |age| age < settings.min_age);
    let narrowed_mode = narrowing.as_ref().ok().and_then(|narrowing| narrowing.as_ref()?.mode);
    let mode = narrowed_mode.unwrap_or(settings.mode);
    let is_spared = pod.controller.as_ref().is_some_and(|controller| mode.spares(&controller.kind));
    let blocked = || mode == Mode::Evict && observation.budgets.iter().any(|budget| budget.blocks(pod));

    let killed = u32::try_from(killed.get(uid).map_or(0, BTreeSet::len)).unwrap_or(u32::MAX);
    let lacks_pods = |desired: u32| ready.saturating_add(killed) < desired;
    // With `below-desired`, or after a kill of the same round, the last Ready Pod stays nevertheless.
    let is_last = !settings.single_replica && ready <= 1;

    // The Pod template may have been narrowed since the first kill of the round.
    let own = narrowing.as_ref().ok().and_then(|narrowing| narrowing.as_ref()?.per_workload);
    let is_enough = own.is_some_and(|own| {
        let desired = workload.desired.unwrap_or(ready) as usize;
        killed > 0 && killed as usize >= own.of(desired)
    });

    let guards: [(Refusal, &dyn Fn() -> bool); 18] = [
        (Refusal::MirrorPod, &|| kind == "Node"),
        (Refusal::Job, &|| kind == "Job"),
        (Refusal::KindNotSelected, &|| !settings.kinds.contain(kind) || is_spared),
        (Refusal::Excluded, &|| exclusion(pod, Some(workload), settings).is_some()),
        (Refusal::NotTargeted, &|| {
            settings.targets.as_ref().is_some_and(|targets| !targets.cover(&pod.labels))
        }),
        (Refusal::NotNarrower, &|| narrowing.is_err()),
        (Refusal::TooYoung, &|| is_young),
        (Refusal::Terminating, &|| pod.terminating),
        (Refusal::NotReady, &|| !pod.ready || pod.finished),
        (Refusal::NodeCordoned, &|| {
            pod.node.as_ref().is_some_and(|node| observation.cordoned.contains(node))
        }),
        (Refusal::SingleReplica, &|| {
            !settings.single_replica && workload.desired.is_some_and(|desired| desired <= 1)
        }),
        (Refusal::RollingOut, &|| workload.rolling_out),
        (Refusal::SizeUnknown, &|| workload.desired.is_none()),
        (Refusal::BelowDesired, &|| {
            let is_below =
                |desired: u32| ready < desired && (is_last || lacks_pods(desired) && !settings.below_desired);
            workload.desired.is_some_and(is_below)
        }),
        (Refusal::RecoveryPending, &|| pending.contains(uid) || is_enough),
        (Refusal::BackingOff, &|| backing_off.contains_key(uid)),
        (Refusal::BlockedByPdb, &blocked),
        (Refusal::Changed, &|| resting.contains(uid)),
    ];
    guards.into_iter().find(|(_, refuses)| refuses()).map(|(refusal, _)| refusal)
}

#[cfg(test)]
mod tests;

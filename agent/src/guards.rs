//! The guards: checks that can refuse a round or a kill, in one order, each with one label.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use policy::record::WorkloadReference;
use policy::settings::{Mode, Settings};

use crate::refusal::Refusal;
use crate::views::{Observation, PodView, WorkloadView};

/// A Pod that no guard refused, with its workload as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The Pod.
    pub pod: PodView,
    /// Its workload.
    pub workload: WorkloadView,
    /// The lesser of the workload's Ready and desired Pods.
    pub steady_state: u32,
    /// UIDs of the workload's other Pods that aren't lost.
    pub others: BTreeSet<String>,
}

/// A Pod that a guard refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The Pod's name.
    pub pod: String,
    /// The Pod's UID.
    pub uid: String,
    /// Its workload, if it has one.
    pub workload: Option<WorkloadReference>,
    /// Why.
    pub refusal: Refusal,
}

/// What the guards need to know beside the observation.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// The wall clock.
    pub now: Timestamp,
    /// The namespace's settings.
    pub settings: &'a Settings,
    /// UIDs of workloads with a pending recovery.
    pub pending: &'a BTreeSet<String>,
    /// UIDs of workloads that rest because recoveries timed out.
    pub backing_off: &'a BTreeSet<String>,
    /// UIDs of workloads that rest because a kill met a change.
    pub resting: &'a BTreeSet<String>,
}

/// What the guards said of each Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screening {
    /// Pods that no guard refused.
    pub candidates: Vec<Candidate>,
    /// The others.
    pub refused: Vec<Refused>,
}

/// Asks every guard about every Pod.
#[must_use]
pub fn screen(observation: &Observation, circumstances: &Circumstances) -> Screening {
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
        let all = workload.as_ref().and_then(|workload| siblings.get(&workload.reference.uid));
        let ready = all.map_or(0, |pods| pods.iter().filter(|pod| pod.counts_as_ready()).count());
        let ready = u32::try_from(ready).unwrap_or(u32::MAX);
        match (check(pod, workload.as_ref(), ready, observation, circumstances), workload) {
            (None, Some(workload)) => screening.candidates.push(Candidate {
                pod: pod.clone(),
                steady_state: workload.desired.map_or(ready, |desired| desired.min(ready)),
                others: all
                    .into_iter()
                    .flatten()
                    .filter(|other| other.uid != pod.uid && !other.is_lost())
                    .map(|other| other.uid.clone())
                    .collect(),
                workload,
            }),
            (refusal, workload) => screening.refused.push(Refused {
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                workload: workload.map(|workload| workload.reference),
                refusal: refusal.unwrap_or(Refusal::NoController),
            }),
        }
    }
    screening
}

/// The first guard that refuses this Pod.
fn check(
    pod: &PodView,
    workload: Option<&WorkloadView>,
    ready: u32,
    observation: &Observation,
    circumstances: &Circumstances,
) -> Option<Refusal> {
    let Circumstances { now, settings, pending, backing_off, resting } = circumstances;
    let Some(workload) = workload else {
        return Some(Refusal::NoController);
    };
    let uid = &workload.reference.uid;
    let kind = workload.reference.kind.as_str();
    let age = now.duration_since(pod.created);
    // A Pod made in the future means that a clock is wrong: it counts as young.
    let is_young = std::time::Duration::try_from(age).map_or(true, |age| age < settings.min_age);
    // Two members with one identity could run at once where a StatefulSet's Pod is forced.
    let is_forced_member = settings.mode == Mode::Force && kind == "StatefulSet";
    let blocked =
        || settings.mode == Mode::Evict && observation.budgets.iter().any(|budget| budget.blocks(pod));

    let guards: [(Refusal, &dyn Fn() -> bool); 16] = [
        (Refusal::MirrorPod, &|| kind == "Node"),
        (Refusal::Job, &|| kind == "Job"),
        (Refusal::KindNotSelected, &|| !settings.kinds.contain(kind) || is_forced_member),
        (Refusal::Excluded, &|| pod.excluded),
        (Refusal::NotTargeted, &|| {
            settings.targets.as_ref().is_some_and(|targets| !targets.cover(&pod.labels))
        }),
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
        (Refusal::BelowDesired, &|| workload.desired.is_none_or(|desired| ready < desired)),
        (Refusal::RecoveryPending, &|| pending.contains(uid)),
        (Refusal::BackingOff, &|| backing_off.contains(uid)),
        (Refusal::BlockedByPdb, &blocked),
        (Refusal::Changed, &|| resting.contains(uid)),
    ];
    guards.into_iter().find(|(_, refuses)| refuses()).map(|(refusal, _)| refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::BudgetView;
    use crate::views::examples::{controller, deployment, noon, pod};
    use policy::settings::Key;
    use std::time::Duration;

    fn screen_with(observation: &Observation, settings: &Settings) -> Screening {
        let none = BTreeSet::new();
        screen(
            observation,
            &Circumstances { now: noon(), settings, pending: &none, backing_off: &none, resting: &none },
        )
    }

    fn refusal_of(observation: &Observation, settings: &Settings, name: &str) -> Option<Refusal> {
        let screening = screen_with(observation, settings);
        assert_eq!(screening.candidates.len() + screening.refused.len(), observation.pods.len());
        screening.refused.iter().find(|refused| refused.pod == name).map(|refused| refused.refusal)
    }

    #[test]
    fn a_healthy_deployments_pods_are_candidates_with_its_steady_state() {
        let observation = deployment(vec![pod("a"), pod("b"), pod("c")], 3);
        let screening = screen_with(&observation, &Settings::built_in());
        assert_eq!(screening.refused, []);
        assert_eq!(screening.candidates[0].steady_state, 3);
        assert_eq!(screening.candidates[0].others, BTreeSet::from(["b-uid".to_owned(), "c-uid".to_owned()]));
        let surge = deployment(vec![pod("a"), pod("b"), pod("c")], 2);
        assert_eq!(screen_with(&surge, &Settings::built_in()).candidates[0].steady_state, 2);
    }

    #[test]
    fn each_pod_guard_refuses() {
        let young = noon().checked_sub(Duration::from_secs(59)).unwrap();
        let old_enough = noon().checked_sub(Duration::from_secs(60)).unwrap();
        let future = noon().checked_add(Duration::from_secs(3600)).unwrap();
        let cases = [
            (PodView { controller: None, ..pod("x") }, Some(Refusal::NoController)),
            (PodView { controller: Some(controller("Node", "n")), ..pod("x") }, Some(Refusal::MirrorPod)),
            (PodView { controller: Some(controller("Job", "j")), ..pod("x") }, Some(Refusal::Job)),
            (
                PodView { controller: Some(controller("DaemonSet", "d")), ..pod("x") },
                Some(Refusal::KindNotSelected),
            ),
            (
                PodView { controller: Some(controller("Rollout", "r")), ..pod("x") },
                Some(Refusal::KindNotSelected),
            ),
            (PodView { created: young, ..pod("x") }, Some(Refusal::TooYoung)),
            (PodView { created: future, ..pod("x") }, Some(Refusal::TooYoung)),
            (PodView { created: old_enough, ..pod("x") }, None),
            (PodView { excluded: true, ..pod("x") }, Some(Refusal::Excluded)),
            (PodView { terminating: true, ..pod("x") }, Some(Refusal::Terminating)),
            (PodView { ready: false, ..pod("x") }, Some(Refusal::NotReady)),
            (PodView { finished: true, ..pod("x") }, Some(Refusal::NotReady)),
        ];
        for (subject, expected) in cases {
            let observation = deployment(vec![subject.clone(), pod("a"), pod("b")], 2);
            assert_eq!(refusal_of(&observation, &Settings::built_in(), "x"), expected, "{subject:?}");
        }
    }

    #[test]
    fn pods_of_cordoned_nodes_are_left_alone() {
        let on = |node: &str| PodView { node: Some(node.to_owned()), ..pod("x") };
        for (subject, expected) in [
            (on("n1"), None),
            (on("n2"), Some(Refusal::NodeCordoned)),
            (PodView { ready: false, ..on("n2") }, Some(Refusal::NotReady)),
        ] {
            let mut observation = deployment(vec![subject, pod("a"), pod("b")], 2);
            observation.cordoned = BTreeSet::from(["n2".to_owned()]);
            assert_eq!(refusal_of(&observation, &Settings::built_in(), "x"), expected);
        }
    }

    #[test]
    fn settings_choose_among_the_pods() {
        let with = |key, value: &str| {
            let mut settings = Settings::built_in();
            settings.set(key, value).unwrap();
            settings
        };
        let mut observation = deployment(vec![pod("a"), pod("b")], 2);
        for (settings, expected) in [
            (with(Key::Targets, "app=web"), None),
            (with(Key::Targets, "app=db"), Some(Refusal::NotTargeted)),
            (with(Key::Kinds, "StatefulSet"), Some(Refusal::KindNotSelected)),
        ] {
            assert_eq!(refusal_of(&observation, &settings, "a"), expected);
        }
        observation.pods[0].controller = Some(controller("DaemonSet", "d"));
        observation
            .workloads
            .insert("d-uid".to_owned(), crate::views::examples::workload("DaemonSet", "d", 1));
        let daemons = Settings { single_replica: true, ..with(Key::Kinds, "DaemonSet") };
        assert_eq!(refusal_of(&observation, &daemons, "a"), None, "just what it lists");
        assert_eq!(refusal_of(&observation, &daemons, "b"), Some(Refusal::KindNotSelected));
        let single = deployment(vec![pod("a")], 1);
        assert_eq!(refusal_of(&single, &with(Key::SingleReplica, "allow"), "a"), None);
    }

    #[test]
    fn each_workload_guard_refuses() {
        let settings = Settings::built_in();
        assert_eq!(refusal_of(&deployment(vec![pod("a")], 1), &settings, "a"), Some(Refusal::SingleReplica));
        let below = deployment(vec![pod("a"), PodView { ready: false, ..pod("b") }], 2);
        assert_eq!(refusal_of(&below, &settings, "a"), Some(Refusal::BelowDesired));
        let leaving = deployment(vec![pod("a"), pod("c"), PodView { terminating: true, ..pod("b") }], 3);
        assert_eq!(refusal_of(&leaving, &settings, "a"), Some(Refusal::BelowDesired));
        let mut rolling = deployment(vec![pod("a"), pod("b")], 3);
        rolling.workloads.get_mut("web-uid").unwrap().rolling_out = true;
        assert_eq!(
            refusal_of(&rolling, &settings, "a"),
            Some(Refusal::RollingOut),
            "which says more than below_desired"
        );
        let mut unknown = deployment(vec![pod("a"), pod("b")], 2);
        unknown.workloads.get_mut("web-uid").unwrap().desired = None;
        assert_eq!(refusal_of(&unknown, &settings, "a"), Some(Refusal::BelowDesired));

        let observation = deployment(vec![pod("a"), pod("b")], 2);
        let (none, web) = (BTreeSet::new(), BTreeSet::from(["web-uid".to_owned()]));
        for (pending, backing_off, resting, expected) in [
            (&web, &none, &none, Refusal::RecoveryPending),
            (&none, &web, &none, Refusal::BackingOff),
            (&none, &none, &web, Refusal::Changed),
            (&none, &web, &web, Refusal::BackingOff),
            (&web, &web, &web, Refusal::RecoveryPending),
        ] {
            let circumstances =
                Circumstances { now: noon(), settings: &settings, pending, backing_off, resting };
            assert_eq!(screen(&observation, &circumstances).refused[0].refusal, expected);
        }
    }

    #[test]
    fn a_budget_stops_evictions_of_its_pods_only() {
        let selector =
            |label: &str| Some(kube::core::Expression::Equal("app".to_owned(), label.to_owned()).into());
        let mut observation = deployment(vec![pod("a"), pod("b")], 2);
        for (budget, mode, expected) in [
            (
                BudgetView { selector: selector("web"), exhausted: true },
                Mode::Evict,
                Some(Refusal::BlockedByPdb),
            ),
            (BudgetView { selector: None, exhausted: true }, Mode::Evict, Some(Refusal::BlockedByPdb)),
            (BudgetView { selector: selector("db"), exhausted: true }, Mode::Evict, None),
            (BudgetView { selector: selector("web"), exhausted: false }, Mode::Evict, None),
            (BudgetView { selector: selector("web"), exhausted: true }, Mode::Delete, None),
        ] {
            observation.budgets = vec![budget];
            assert_eq!(refusal_of(&observation, &Settings { mode, ..Settings::built_in() }, "a"), expected);
        }
    }

    #[test]
    fn force_never_touches_a_stateful_set() {
        let mut observation = deployment(vec![pod("a"), pod("b")], 2);
        for member in &mut observation.pods {
            member.controller = Some(controller("StatefulSet", "db"));
        }
        let db = crate::views::examples::workload("StatefulSet", "db", 2);
        observation.workloads.insert("db-uid".to_owned(), db);
        let with = |mode| refusal_of(&observation, &Settings { mode, ..Settings::built_in() }, "a");
        assert_eq!(with(Mode::Delete), None);
        assert_eq!(with(Mode::Force), Some(Refusal::KindNotSelected));
    }
}

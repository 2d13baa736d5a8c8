use super::*;
use crate::cluster::snapshot::examples::{controller, deployment, noon, pod};
use crate::cluster::snapshot::{BudgetView, UnknownSize};
use policy::exclusion::Exclusion;
use policy::settings::Key;
use std::time::Duration;

fn screen_with(observation: &NamespaceSnapshot, settings: &Settings) -> Screening {
    screen_after(observation, settings, &Killed::new())
}

/// Asks the guards after the round has killed these Pods.
fn screen_after(observation: &NamespaceSnapshot, settings: &Settings, killed: &Killed) -> Screening {
    let none = BTreeSet::new();
    let guard_context = GuardContext {
        now: noon(),
        settings,
        pending: &none,
        backing_off: &BTreeMap::new(),
        resting: &none,
        killed,
    };
    screen(observation, &guard_context)
}

fn refusal_of(observation: &NamespaceSnapshot, settings: &Settings, name: &str) -> Option<Refusal> {
    let screening = screen_with(observation, settings);
    assert_eq!(screening.candidates.len() + screening.refused.len(), observation.pods.len());
    screening.refused.iter().find(|refused| refused.pod == name).map(|refused| refused.refusal)
}

fn asked() -> Option<Exclusion> {
    Some(Exclusion::Asked("purechaos.dev/exclude".to_owned(), "yes".to_owned()))
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
        (PodView { exclusion: asked(), ..pod("x") }, Some(Refusal::Excluded)),
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
fn who_asks_to_be_left_alone_is_told_by_what() {
    let critical = Some(Exclusion::Critical("system-cluster-critical".to_owned()));
    let mut settings = Settings::built_in();
    let mut observation = deployment(vec![PodView { exclusion: critical, ..pod("a") }, pod("b")], 2);
    let because = |observation: &NamespaceSnapshot, settings: &Settings| {
        let refused = screen_with(observation, settings).refused;
        refused
            .into_iter()
            .map(|refused| (refused.pod.clone(), refused.sentence().to_owned()))
            .collect::<Vec<_>>()
    };
    let told = because(&observation, &settings);
    assert_eq!(told.len(), 1);
    assert!(told[0].0 == "a" && told[0].1.contains("system-cluster-critical"), "{told:?}");
    settings.set(Key::Targets, "app=web").unwrap();
    assert_eq!(because(&observation, &settings), [], "named");

    let by_workload = || asked().map(|exclusion| ("its workload", exclusion)).into_iter().collect();
    observation.workloads.get_mut("web-uid").unwrap().exclusions = by_workload();
    for (_, sentence) in because(&observation, &settings) {
        assert_eq!(sentence, "its workload asks to be left alone: purechaos.dev/exclude=yes");
    }
    assert_eq!(because(&observation, &settings).len(), 2);
    // The ReplicaSet asks, but not its Deployment.
    observation.workloads.get_mut("web-uid").unwrap().exclusions.clear();
    observation.replica_sets.get_mut("web-1-uid").unwrap().workload.exclusions = by_workload();
    for (_, sentence) in because(&observation, &settings) {
        assert_eq!(sentence, "its ReplicaSet asks to be left alone: purechaos.dev/exclude=yes");
    }
    assert_eq!(because(&observation, &settings).len(), 2);
    // The agent does not read workloads of other kinds, so their ReplicaSets carry the exclusion.
    observation.workloads.clear();
    settings.set(Key::Kinds, "Deployment").unwrap();
    assert_eq!(because(&observation, &settings).len(), 2);
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
        .insert("d-uid".to_owned(), crate::cluster::snapshot::examples::workload("DaemonSet", "d", 1));
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
    assert_eq!(refusal_of(&unknown, &settings, "a"), Some(Refusal::SizeUnknown));
    let sentence = |observation: &NamespaceSnapshot| {
        screen_with(observation, &settings).refused[0].sentence().to_owned()
    };
    assert_eq!(sentence(&unknown), Refusal::SizeUnknown.meaning());
    unknown.workloads.get_mut("web-uid").unwrap().unknown_size =
        Some(UnknownSize::because("nobody may read it".to_owned()));
    assert_eq!(sentence(&unknown), "nobody may read it");

    let observation = deployment(vec![pod("a"), pod("b")], 2);
    let (none, web) = (BTreeSet::new(), BTreeSet::from(["web-uid".to_owned()]));
    let (calm, rests) = (BTreeMap::new(), BTreeMap::from([("web-uid".to_owned(), "it rests".to_owned())]));
    for (pending, backing_off, resting, expected) in [
        (&web, &calm, &none, Refusal::RecoveryPending),
        (&none, &rests, &none, Refusal::BackingOff),
        (&none, &calm, &web, Refusal::Changed),
        (&none, &rests, &web, Refusal::BackingOff),
        (&web, &rests, &web, Refusal::RecoveryPending),
    ] {
        let guard_context = GuardContext {
            now: noon(),
            settings: &settings,
            pending,
            backing_off,
            resting,
            killed: &Killed::new(),
        };
        let refused = screen(&observation, &guard_context).refused.remove(0);
        assert_eq!(refused.refusal, expected);
        if expected == Refusal::BackingOff {
            assert_eq!(refused.sentence(), "it rests");
        }
    }
}

#[test]
fn a_budget_stops_evictions_of_its_pods_only() {
    let selector =
        |label: &str| Some(kube::core::Expression::Equal("app".to_owned(), label.to_owned()).into());
    let mut observation = deployment(vec![pod("a"), pod("b")], 2);
    for (budget, mode, expected) in [
        (BudgetView { selector: selector("web"), exhausted: true }, Mode::Evict, Some(Refusal::BlockedByPdb)),
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
    let db = crate::cluster::snapshot::examples::workload("StatefulSet", "db", 2);
    observation.workloads.insert("db-uid".to_owned(), db);
    let with = |mode| refusal_of(&observation, &Settings { mode, ..Settings::built_in() }, "a");
    assert_eq!(with(Mode::Delete), None);
    assert_eq!(with(Mode::Force), Some(Refusal::KindNotSelected));
}

#[test]
fn further_pods_of_a_workload_may_die_in_a_round_but_not_the_last() {
    let all = |gone: &[&str]| {
        let view = |name: &&str| PodView { terminating: gone.contains(name), ..pod(name) };
        deployment(["a", "b", "c"].iter().map(view).collect(), 3)
    };
    let killed = |names: &[&str]| {
        Killed::from([("web-uid".to_owned(), names.iter().map(|name| format!("{name}-uid")).collect())])
    };
    let settings = Settings::built_in();
    let candidates = |gone: &[&str], names: &[&str], settings: &Settings| -> Vec<String> {
        let screening = screen_after(&all(gone), settings, &killed(names));
        screening.candidates.into_iter().map(|candidate| candidate.pod.name).collect()
    };
    // The look may be from before the first kill, or from after it.
    assert_eq!(candidates(&[], &["a"], &settings), ["a", "b", "c"]);
    assert_eq!(candidates(&["a"], &["a"], &settings), ["b", "c"]);
    assert_eq!(candidates(&["a", "b"], &["a"], &settings), [""; 0], "somebody else took another Pod");
    assert_eq!(candidates(&["a", "b"], &["a", "b"], &settings), [""; 0], "the last one stays");
    let mut single = Settings::built_in();
    single.set(Key::SingleReplica, "allow").unwrap();
    assert_eq!(candidates(&["a", "b"], &["a", "b"], &single), ["c"]);
    // What the round killed is not one of the others, which must not be lost during the recovery.
    let screening = screen_after(&all(&[]), &settings, &killed(&["a"]));
    let b = screening.candidates.iter().find(|candidate| candidate.pod.name == "b").unwrap();
    assert_eq!(b.others, BTreeSet::from(["c-uid".to_owned()]));
}

#[test]
fn a_workload_that_lacks_a_pod_may_be_tried_if_somebody_allows_it() {
    let allowed = |text: &str, ready: &[&str]| -> usize {
        let mut settings = Settings::built_in();
        settings.set(Key::BelowDesired, text).unwrap();
        let view = |name: &&str| PodView { ready: ready.contains(name), ..pod(name) };
        let observation = deployment(["a", "b", "c"].iter().map(view).collect(), 3);
        screen_with(&observation, &settings).candidates.len()
    };
    assert_eq!((allowed("refuse", &["a", "b"]), allowed("allow", &["a", "b"])), (0, 2));
    assert_eq!(allowed("allow", &["a"]), 0, "the last Ready Pod stays");
}

#[test]
fn force_never_touches_a_custom_workload() {
    let clone_set = crate::cluster::snapshot::examples::workload("CloneSet", "c", 1);
    let mut observation =
        deployment(vec![PodView { controller: Some(controller("CloneSet", "c")), ..pod("a") }, pod("b")], 1);
    observation.workloads.insert("c-uid".to_owned(), clone_set);
    let mut settings = Settings { single_replica: true, ..Settings::built_in() };
    settings.set(Key::Kinds, "Deployment,CloneSet").unwrap();
    assert_eq!(refusal_of(&observation, &settings, "a"), None);
    settings.mode = Mode::Force;
    assert_eq!(refusal_of(&observation, &settings, "a"), Some(Refusal::KindNotSelected));
    assert_eq!(refusal_of(&observation, &settings, "b"), None, "a ReplicaSet's Pod has no identity");
}

#[test]
fn the_narrowest_pod_template_counts_for_the_whole_workload() {
    let narrows = |key: &str, value: &str| {
        Some(Box::new(BTreeMap::from([(format!("purechaos.dev/{key}"), value.to_owned())])))
    };
    let mut settings = Settings::built_in();
    settings.set(Key::PerWorkload, "3").unwrap();
    let a = PodView { narrows: narrows("schedule", "every 1h"), ..pod("a") };
    let b = PodView { narrows: narrows("schedule", "every 1d"), ..pod("b") };
    let observation = deployment(vec![a, b, pod("c")], 3);
    let narrowed = narrowed_schedules(&observation, &settings);
    assert_eq!(narrowed["web-uid"].to_string(), "every 1d");

    // A Pod that is narrowed after the first kill of a round is spared.
    let one = PodView { narrows: narrows("per-workload", "1"), ..pod("b") };
    let observation = deployment(vec![pod("a"), one, pod("c")], 3);
    let killed = Killed::from([("web-uid".to_owned(), BTreeSet::from(["a-uid".to_owned()]))]);
    let screening = screen_after(&observation, &settings, &killed);
    let refusal = |name: &str| {
        screening.refused.iter().find(|refused| refused.pod == name).map(|refused| refused.refusal)
    };
    assert_eq!((refusal("b"), refusal("c")), (Some(Refusal::RecoveryPending), None));
}

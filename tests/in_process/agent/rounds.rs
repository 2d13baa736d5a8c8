//! The agent in virtual time against a fake API in this process: the exact calls, faults, and the
//! calls that it must not make.

use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::platform::PlatformPolicy;
use policy::schedule::Timetable;
use policy::settings::{Key, Settings};
use serde_json::{Value, json};
use tests::fake_api::{Answer, Api, Call};
use tests::stage::{FIRST_SLOT, NAMESPACE, RECORD, SYSTEM, Stage, UID, first_round, noon, pass, play, pod};

fn timetable(schedule: &str) -> Timetable {
    let mut settings = Settings::built_in();
    settings.set(Key::Schedule, schedule).unwrap();
    settings.timetable(Duration::from_secs(60))
}

fn summary(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| format!("{} {}", call.verb, call.path)).collect()
}

#[test]
fn a_round_reads_live_spends_the_slot_reads_again_and_evicts() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(100)).await;
        let before = stage.api.calls().len();
        assert_eq!(stage.api.kills(), []);
        pass(Duration::from_millis(600)).await;
        let calls = stage.api.calls()[before..].to_vec();
        let eviction = calls.iter().position(|call| call.path.ends_with("/eviction")).unwrap();
        let victim = stage.victim();
        let calls_before = summary(&calls[..eviction]);
        assert_eq!(calls_before[0], format!("GET {RECORD}"));
        let spent = calls_before.iter().position(|call| *call == format!("PATCH {RECORD}/status")).unwrap();
        let lists: Vec<&String> =
            calls_before[..spent].iter().filter(|call| call.starts_with("LIST")).collect();
        assert_eq!(lists.len(), 7, "{calls_before:?}");
        let mut last_look = calls_before[spent + 1..].to_vec();
        assert_eq!(last_look.remove(0), format!("GET {}", pod(&victim)), "consent is read last");
        last_look.sort();
        assert_eq!(last_look, [format!("GET {NAMESPACE}"), format!("GET {SYSTEM}")]);

        // The record names the victim before the kill.
        let intent = &calls[spent].body["status"]["intents"][0];
        assert_eq!(intent["slot"], "2026-11-23T12:04:44.363Z");
        assert_eq!(
            (&intent["kill"]["uid"], &intent["mode"]),
            (&json!(format!("{victim}-uid")), &json!("evict"))
        );
        assert_eq!(stage.status()["intents"], Value::Null, "its result is known");

        let preconditions = &calls[eviction].body["deleteOptions"]["preconditions"];
        assert_eq!(preconditions["uid"], format!("{victim}-uid"));
        assert!(preconditions["resourceVersion"].is_string(), "{preconditions}");
        assert_eq!(calls[eviction].body["kind"], "Eviction");
        assert_eq!(stage.kills("evict"), 1.0);
        assert_eq!(stage.rounds("killed"), 1.0);
        assert_eq!(stage.status()["kills"], 1);
        assert_eq!(stage.status()["lastSlot"], "2026-11-23T12:04:44.363Z");
        assert_eq!(stage.status()["pendingCount"], 1);
    });
}

#[test]
fn nothing_dies_because_a_process_started() {
    play(async {
        let mut stage = Stage::opted_in();
        // This is a second after a slot, and no slot has been served yet.
        pass(FIRST_SLOT + Duration::from_secs(1)).await;
        for _ in 0..20 {
            stage.start();
            pass(Duration::from_secs(20)).await;
            assert_eq!((stage.rounds("failed"), stage.rounds("refused")), (0.0, 0.0), "no round at all");
            stage.stop().await;
        }
        assert_eq!(stage.api.kills(), []);
    });
}

#[test]
fn a_slot_that_another_process_spent_is_not_spent_again() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_secs(1)).await;
        stage.api.change(RECORD, |record| record["status"]["lastSlot"] = json!("2026-11-23T12:04:44.363Z"));
        pass(Duration::from_secs(10)).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
    });
}

#[test]
fn a_namespace_that_opts_in_waits_for_its_next_slot() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.remove(RECORD);
        stage.start();
        first_round().await;
        stage.opt_in(&[("chaos", "yes")]);
        pass(Duration::from_secs(500)).await;
        assert_eq!(stage.api.kills(), []);
        pass(Duration::from_secs(150)).await;
        assert_eq!(stage.api.kills().len(), 1);
    });
}

/// Begins to delete the Namespace.
fn delete_namespace(api: &Api) {
    api.change(NAMESPACE, |namespace| {
        namespace["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
    });
}

#[test]
fn each_refusal_of_a_namespace_kills_nothing_and_says_why() {
    type Prepare = fn(&Api);
    let cases: [(&'static str, Prepare); 7] = [
        ("halted", |api| {
            api.change(SYSTEM, |system| system["metadata"]["annotations"] = json!({"purechaos.dev/halt": ""}))
        }),
        ("halted", |api| api.remove(SYSTEM)),
        ("not_admitted", |api| {
            api.change(NAMESPACE, |namespace| namespace["metadata"]["annotations"] = json!({}))
        }),
        ("not_admitted", |api| {
            api.change(NAMESPACE, |namespace| {
                namespace["metadata"]["annotations"]["purechaos.dev/limit"] = json!("2")
            });
        }),
        ("namespace_terminating", delete_namespace),
        ("no_rights", |api| api.fail("LIST", "/pods", 9, Answer::Status(403, Value::Null))),
        // The RoleBinding was deleted before the Pods.
        ("namespace_terminating", |api| {
            api.before("LIST", "/pods", delete_namespace);
            api.fail("LIST", "/pods", 9, Answer::Status(403, Value::Null));
        }),
    ];
    for (reason, prepare) in cases {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            pass(Duration::from_secs(200)).await;
            prepare(&stage.api);
            pass(Duration::from_secs(100)).await;
            assert_eq!(stage.api.kills(), [], "{reason}");
            assert_eq!(stage.refusals(reason), 1.0, "{reason}");
            assert_eq!(stage.rounds("refused"), 1.0, "{reason}");
            assert_eq!(stage.status()["state"], reason);
        });
    }
}

#[test]
fn a_namespace_that_is_being_deleted_says_so_until_its_end() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(Duration::from_secs(200)).await;
        delete_namespace(&stage.api);
        pass(Duration::from_secs(100)).await;
        stage.api.fail("GET", "/namespaces/a", usize::MAX, Answer::Status(403, Value::Null));
        pass(Duration::from_secs(600)).await;
        assert_eq!((stage.refusals("namespace_terminating"), stage.refusals("no_rights")), (2.0, 0.0));
        assert_eq!(stage.status()["state"], "namespace_terminating");
    });
}

#[test]
fn a_namespace_without_rights_says_so_from_the_start_and_one_without_admission_says_that() {
    for (verdict, reason) in [("Admitted", "no_rights"), ("NotAdmitted", "not_admitted")] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.api.change(RECORD, |record| record["spec"]["verdict"] = json!(verdict));
            stage.api.fail("GET", "/namespaces/a", usize::MAX, Answer::Status(403, Value::Null));
            stage.api.fail("LIST", "/pods", usize::MAX, Answer::Status(403, Value::Null));
            stage.start();
            first_round().await;
            assert_eq!((stage.refusals(reason), stage.rounds("refused")), (1.0, 1.0), "{reason}");
            assert_eq!(stage.status()["state"], reason);
        });
    }
}

#[test]
fn a_slot_of_a_schedule_that_was_changed_meanwhile_is_not_served() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(1)).await;
        // The record and the Namespace change just before the round reads them. The watch has shown
        // neither change yet.
        let changed = Stage::opted_in();
        changed.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 12h")]);
        let (record, namespace) = (changed.api.get(RECORD).unwrap(), changed.api.get(NAMESPACE).unwrap());
        stage.api.before("GET", "/optins/chaos", move |api| {
            api.put(RECORD, record);
            api.put(NAMESPACE, namespace);
        });
        pass(Duration::from_secs(10)).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
    });
}

#[test]
fn a_slot_that_goes_by_while_something_else_is_done_is_served_at_once() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(10)).await;
        // The agent has to ask for this Pod's ReplicaSet, and the API takes its time.
        stage.api.fail("GET", "/replicasets/new", 1, Answer::After(Duration::from_secs(1)));
        stage.add_pod("p9", true);
        stage.api.change(&pod("p9"), |new| {
            let owner = &mut new["metadata"]["ownerReferences"][0];
            owner["name"] = json!("new");
            owner["uid"] = json!("new-uid");
        });
        pass(Duration::from_secs(2)).await;
        assert_eq!(stage.api.kills().len(), 1);
    });
}

#[test]
fn without_a_watch_of_the_pods_nothing_is_killed() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.fail("LIST", "/pods", usize::MAX, Answer::Status(500, Value::Null));
        stage.start();
        pass(FIRST_SLOT - Duration::from_millis(1)).await;
        stage.api.heal();
        pass(Duration::from_millis(100)).await;
        assert_eq!((stage.api.kills().len(), stage.rounds("failed")), (0, 1.0));
    });
}

#[test]
fn a_changed_schedule_begins_now() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 12h")]);
        stage.start();
        // A schedule that would have had a slot less than 20 s ago, if it had been in force then.
        let now = noon().checked_add(Duration::from_secs(60)).unwrap();
        let recent = now.checked_sub(Duration::from_secs(20)).unwrap();
        let seconds = (1_800..7_200)
            .find(|seconds| timetable(&format!("every {seconds}s")).newest_in(UID, recent, now).is_some());
        pass(Duration::from_secs(60)).await;
        let schedule = format!("every {}s", seconds.expect("one of so many schedules"));
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", &schedule)]);
        pass(Duration::from_secs(1_200)).await;
        assert_eq!(stage.api.kills(), []);
        assert!(stage.status()["nextSlot"].is_string());
    });
}

#[test]
fn the_first_slot_is_where_policy_says() {
    let next = timetable("every 10m").next_after(UID, noon()).unwrap();
    assert_eq!(Duration::try_from(next.duration_since(noon())).unwrap(), FIRST_SLOT);
}

#[test]
fn who_does_not_lead_kills_nothing_and_writes_nothing() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.leadership.send_replace(None);
        stage.start();
        pass(FIRST_SLOT + Duration::from_secs(60)).await;
        assert_eq!(stage.api.kills(), []);
        assert!(stage.api.calls().iter().all(|call| call.verb != "PATCH"), "{:?}", stage.api.calls());
    });
    // The process loses the Lease at the last moment: after it spent the slot, and before it sent
    // the kill.
    play(async {
        let mut stage = Stage::opted_in();
        for name in ["p1", "p2", "p3"] {
            let leadership = stage.leadership.clone();
            stage.api.before("GET", &format!("/pods/{name}"), move |_| {
                leadership.send_replace(None);
            });
        }
        stage.start();
        first_round().await;
        assert_eq!(stage.status()["lastSlot"], "2026-11-23T12:04:44.363Z");
        assert_eq!(stage.api.kills(), []);
        assert_eq!(stage.kills("evict"), 0.0);
    });
}

#[test]
fn a_refusal_of_the_whole_namespace_is_told_once() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.change(NAMESPACE, |namespace| {
            namespace["metadata"]["annotations"]["purechaos.dev/halt"] = json!("incident 4711");
        });
        stage.start();
        first_round().await;
        assert_eq!(stage.api.events(), ["ChaosRefused"]);
        pass(Duration::from_secs(1_300)).await;
        assert_eq!(stage.refusals("halted"), 3.0);
        assert_eq!(stage.api.events(), ["ChaosRefused"], "told once, refused three times");
    });
}

#[test]
fn a_last_slot_far_in_the_future_is_a_suspect_clock() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.api.change(RECORD, |record| record["status"] = json!({"lastSlot": "2026-11-23T13:00:00Z"}));
        stage.start();
        first_round().await;
        assert_eq!(stage.api.kills(), []);
        let conditions = stage.status()["conditions"].clone();
        let suspect = conditions.as_array().unwrap().iter().find(|known| known["type"] == "ClockSuspect");
        let suspect = suspect.unwrap_or_else(|| panic!("{conditions}"));
        assert_eq!(
            (&suspect["status"], &suspect["lastTransitionTime"]),
            (&json!("True"), &json!("2026-11-23T12:00:00Z"))
        );
        assert_eq!(stage.status()["state"], "clock_suspect");
        pass(Duration::from_secs(4_000)).await;
        assert_eq!(stage.api.kills().len(), 1, "once the slot has passed it goes on");
        let conditions = stage.status()["conditions"].to_string();
        assert!(!conditions.contains("ClockSuspect"), "{conditions}");
    });
}

#[test]
fn where_nodes_may_be_read_pods_of_cordoned_ones_are_left_alone() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.reads_nodes.store(true, Ordering::Relaxed);
        stage.api.put(
            "/api/v1/nodes/node",
            json!({"metadata": {"name": "node"}, "spec": {"unschedulable": true}}),
        );
        stage.start();
        first_round().await;
        assert_eq!((stage.refusals("node_cordoned"), stage.api.kills().len()), (1.0, 0));
        let asked = stage.api.calls();
        let asked = asked.iter().find(|call| call.path == "/api/v1/nodes").expect("a list of the nodes");
        assert_eq!(asked.query.get("fieldSelector").map(String::as_str), Some("spec.unschedulable=true"));

        stage.api.remove("/api/v1/nodes/node");
        pass(Duration::from_secs(660)).await;
        assert_eq!(stage.api.kills().len(), 1);
        stage.stop().await;
    });
}

#[test]
fn no_more_rounds_go_on_at_once_than_memory_is_meant_for() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.policy = PlatformPolicy::parse("killsPerMinute: 1000").unwrap();
        stage.copy_namespaces("a", 49);
        stage.api.fail("LIST", "/deployments", usize::MAX, Answer::After(Duration::from_secs(14)));
        stage.start();
        first_round().await;
        let looks = |stage: &Stage| {
            stage.api.calls().iter().filter(|call| call.path.ends_with("/deployments")).count()
        };
        assert_eq!(looks(&stage), 16);
        pass(Duration::from_secs(14)).await;
        assert_eq!((looks(&stage), stage.api.kills().len()), (32, 16));
        // The rounds that waited longer than a slot may be late are reported, and kill nothing.
        pass(Duration::from_secs(60)).await;
        assert_eq!((looks(&stage), stage.api.kills().len()), (48, 48));
        let decisions = stage.activity_log.snapshot().decisions;
        let late = decisions.iter().filter(|line| line.last.sentence.contains("more than 30 s late"));
        assert_eq!(late.count(), 2);
    });
}

#[test]
fn the_agent_does_not_write_all_statuses_at_once_when_it_starts() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.copy_namespaces("a", 49);
        stage.api.fail("PATCH", "/status", usize::MAX, Answer::After(Duration::from_millis(300)));
        stage.start();
        let written = |stage: &Stage| stage.api.calls().iter().filter(|call| call.verb == "PATCH").count();
        pass(Duration::from_millis(250)).await;
        assert_eq!(written(&stage), 16);
        pass(Duration::from_millis(900)).await;
        assert_eq!(written(&stage), 50);
    });
}

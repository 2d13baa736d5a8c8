//! What the settings of a namespace and the platform's policy make the agent do, in virtual time.

use std::time::Duration;

use policy::platform::PlatformPolicy;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{FIRST_SLOT, NAMESPACE, RECORD, Stage, WEB, first_round, pass, play, pod};

/// Path of the ReplicaSet of Deployment `web`.
const REPLICA_SET: &str = "/apis/apps/v1/namespaces/a/replicasets/web-1";

/// A stage whose namespace has these settings beside `chaos=yes`.
fn with(settings: &[(&str, &str)]) -> Stage {
    with_policy(settings, "ceilings: {mode: 'evict,delete,force', schedule: every 1m}")
}

fn with_policy(settings: &[(&str, &str)], policy: &str) -> Stage {
    let mut stage = Stage::opted_in();
    stage.policy = PlatformPolicy::parse(policy).unwrap();
    let keys: Vec<String> = settings.iter().map(|(word, _)| format!("purechaos.dev/{word}")).collect();
    let settings = keys.iter().zip(settings).map(|(key, (_, value))| (key.as_str(), *value));
    let annotations: Vec<(&str, &str)> = [("chaos", "yes")].into_iter().chain(settings).collect();
    stage.opt_in(&annotations);
    stage
}

#[test]
fn the_grace_period_is_sent_with_the_kill() {
    for (mode, place) in [("evict", "/deleteOptions/gracePeriodSeconds"), ("delete", "/gracePeriodSeconds")] {
        play(async move {
            let mut stage = with(&[("mode", mode), ("grace-period", "10s")]);
            stage.start();
            first_round().await;
            assert_eq!(stage.api.kills()[0].body.pointer(place), Some(&json!(10)), "{mode}");
        });
    }
    play(async {
        let mut stage = with(&[]);
        stage.start();
        first_round().await;
        let options = &stage.api.kills()[0].body["deleteOptions"];
        assert!(options.is_object() && options["gracePeriodSeconds"] == Value::Null, "the Pod's own");
    });
}

#[test]
fn outside_the_active_hours_and_on_excepted_days_a_round_is_refused() {
    // The first slot is on Monday, 2026-11-23, at 12:04:44 UTC.
    for (settings, reason) in [
        (&[("active-hours", "Mon-Fri 13:05-17:00 Europe/Berlin")][..], "outside_active_hours"),
        (&[("active-hours", "Tue 00:00-24:00 UTC")], "outside_active_hours"),
        (&[("except", "2026-11-20/2026-11-23")], "excepted"),
    ] {
        play(async move {
            let mut stage = with(settings);
            stage.start();
            first_round().await;
            assert_eq!((stage.api.kills().len(), stage.refusals(reason)), (0, 1.0), "{settings:?}");
            assert_eq!(stage.status()["state"], reason);
        });
    }
    play(async {
        let mut stage = with_policy(&[], "except: 2026-11-23");
        stage.start();
        first_round().await;
        assert_eq!(stage.refusals("excepted"), 1.0, "the platform's own");
    });
    play(async {
        let mut stage =
            with(&[("active-hours", "Mon-Fri 13:04-17:00 Europe/Berlin"), ("except", "2026-11-24")]);
        stage.start();
        first_round().await;
        assert_eq!(stage.api.kills().len(), 1);
    });
}

#[test]
fn an_opt_in_that_expires_ends_kills_before_the_record_is_gone() {
    play(async {
        let mut stage = with(&[("expires", "2026-11-23T12:04:44Z")]);
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("expired")), (0, 1.0));
    });
    play(async {
        // The opt-in ends between the beginning of the round and the last look.
        let mut stage = with(&[("expires", "2026-11-23T12:04:46Z")]);
        stage.api.fail("LIST", "/api/v1/namespaces/a/pods", 2, Answer::After(Duration::from_secs(3)));
        stage.start();
        pass(FIRST_SLOT + Duration::from_secs(10)).await;
        assert_eq!((stage.api.kills().len(), stage.refusals("expired")), (0, 1.0));
    });
    play(async {
        let mut stage = with(&[("expires", "2026-11-23T12:05:00Z")]);
        stage.start();
        first_round().await;
        assert_eq!(stage.api.kills().len(), 1);
        pass(Duration::from_secs(30)).await;
        assert_eq!(stage.recoveries("opted_out"), 1.0, "what is pending ends with it");
    });
}

#[test]
fn cron_has_its_instants() {
    play(async {
        let mut stage =
            with(&[("schedule", "cron 7 13 * * *"), ("active-hours", "Mon-Sun 00:00-24:00 Europe/Berlin")]);
        stage.start();
        pass(Duration::from_secs(419)).await;
        assert_eq!(stage.status()["nextSlot"], "2026-11-23T12:07:00Z");
        assert_eq!(stage.api.kills().len(), 0);
        pass(Duration::from_secs(2)).await;
        assert_eq!(stage.api.kills().len(), 1);
        assert_eq!(stage.status()["nextSlot"], "2026-11-24T12:07:00Z");
    });
}

#[test]
fn mtbf_kills_at_random_and_is_otherwise_silent() {
    play(async {
        // A workload is due in a tenth of a promille of the minutes.
        let mut stage = with(&[("schedule", "mtbf 7d")]);
        stage.start();
        pass(Duration::from_secs(1_800)).await;
        assert!(stage.rounds("no_candidate") >= 29.0);
        assert_eq!((stage.api.kills().len(), stage.rounds("refused")), (0, 0.0));
        assert_eq!(stage.status()["state"], "active");
    });
    play(async {
        // A workload is due in about two of three minutes.
        let mut stage = with(&[("schedule", "mtbf 1m")]);
        stage.start();
        pass(Duration::from_secs(600)).await;
        assert_eq!(stage.api.kills().len(), 1, "then the workload is below_desired");
    });
}

#[test]
fn the_budget_of_the_whole_cluster_is_kept() {
    play(async {
        let mut stage = with_policy(&[("limit", "2")], "killsPerMinute: 1");
        stage.add_workload("db", &["d1", "d2", "d3"]);
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("budget_spent")), (1, 1.0));
    });
}

#[test]
fn what_comes_to_nothing_is_not_of_the_budget() {
    play(async {
        let mut stage = with_policy(&[("limit", "2")], "killsPerMinute: 1");
        stage.add_workload("db", &["d1", "d2", "d3"]);
        let budget = json!({"causes": [{"reason": "DisruptionBudget", "message": "needs 3"}]});
        stage.api.fail("POST", "/eviction", 1, Answer::Status(429, budget));
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("budget_spent")), (2, 0.0));
        assert_eq!(stage.status()["kills"], 1);
    });
    play(async {
        let mut stage = with_policy(&[("limit", "2"), ("dry-run", "true")], "killsPerMinute: 1");
        stage.add_workload("db", &["d1", "d2", "d3"]);
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("budget_spent")), (2, 0.0));
    });
}

#[test]
fn a_herd_is_spread_over_the_next_minutes() {
    play(async {
        let mut stage = with_policy(&[("schedule", "cron 7 12 * * *")], "killsPerMinute: 4");
        stage.copy_namespaces("a", 9);
        stage.start();
        pass(Duration::from_secs(425)).await;
        assert_eq!(stage.api.kills().len(), 4);
        pass(Duration::from_secs(60)).await;
        assert_eq!(stage.api.kills().len(), 8);
        pass(Duration::from_secs(65)).await;
        assert_eq!(stage.api.kills().len(), 10);
        pass(Duration::from_secs(600)).await;
        assert_eq!(stage.api.kills().len(), 10, "each slot was served once");
    });
}

#[test]
fn a_slot_that_waits_for_the_budget_keeps_its_distance_to_the_next() {
    play(async {
        let mut stage = with_policy(&[("schedule", "cron */5 * * * *")], "killsPerMinute: 1");
        stage.copy_namespaces("a", 9);
        stage.start();
        pass(Duration::from_secs(595)).await;
        assert_eq!(stage.api.kills().len(), 5, "one a minute, the last a minute before the next slot");
        let decisions = stage.activity_log.snapshot().decisions;
        let skipped = decisions.iter().filter(|line| line.last.sentence.contains("killsPerMinute"));
        let skipped = skipped.filter(|line| line.last.sentence.contains("until the round was too late"));
        assert_eq!(skipped.count(), 5);
        // In the next slot the other namespaces have their turn.
        pass(Duration::from_secs(295)).await;
        let kills = stage.api.kills().len();
        assert!((9..=10).contains(&kills), "{kills}");
    });
}

#[test]
fn the_budget_outlives_the_process_that_spent_it() {
    play(async {
        let mut stage = with_policy(&[], "killsPerMinute: 1");
        stage.copy_namespaces("b", 1);
        pass(FIRST_SLOT - Duration::from_secs(10)).await;
        let record = RECORD.replace("/namespaces/a/", "/namespaces/b1/");
        stage.api.change(&record, |record| {
            record["spec"]["verdict"] = json!("NotAdmitted");
            record["status"] = json!({"recentKills": ["2026-11-23T12:04:30Z"]});
        });
        stage.start();
        pass(Duration::from_secs(11)).await;
        pass(Duration::from_secs(30)).await;
        assert_eq!((stage.api.kills().len(), stage.refusals("budget_spent")), (0, 1.0));
        pass(Duration::from_secs(30)).await;
        assert_eq!(stage.api.kills().len(), 1);
        assert_eq!(stage.status()["recentKills"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn a_recovery_has_the_namespaces_deadline() {
    play(async {
        let mut stage = with(&[("recovery-deadline", "30s")]);
        stage.start();
        first_round().await;
        pass(Duration::from_secs(28)).await;
        assert_eq!(stage.recoveries("timed_out"), 0.0);
        // The same holds after a restart, because the record has the deadline.
        stage.stop().await;
        stage.start();
        pass(Duration::from_secs(7)).await;
        assert_eq!(stage.recoveries("timed_out"), 1.0);
    });
}

#[test]
fn pods_that_are_excluded_or_not_targeted_live() {
    play(async {
        let mut stage = with(&[("targets", "tier=front")]);
        stage.api.change(&pod("p2"), |pod| pod["metadata"]["labels"]["tier"] = json!("front"));
        stage.start();
        first_round().await;
        assert_eq!(stage.victim(), "p2");
        assert_eq!(stage.refusals("not_targeted"), 1.0);
    });
    play(async {
        let mut stage = with(&[]);
        for name in ["p1", "p3"] {
            let exclude = json!({"purechaos.dev/exclude": "true"});
            stage.api.change(&pod(name), |pod| pod["metadata"]["annotations"] = exclude);
        }
        stage.start();
        first_round().await;
        assert_eq!(stage.victim(), "p2");
        assert_eq!(stage.refusals("excluded"), 1.0);
    });
}

#[test]
fn what_asks_to_be_left_alone_lives_and_its_owner_reads_by_which_key() {
    let label = |object: &mut Value, key: &str, value: &str| object["metadata"]["labels"][key] = json!(value);
    let annotate = |object: &mut Value, key: &str, value: &str| {
        let mut annotations = json!({});
        annotations[key] = json!(value);
        object["metadata"]["annotations"] = annotations;
    };
    type Mark = fn(&mut Value, &str, &str);
    let (label, annotate): (Mark, Mark) = (label, annotate);
    let pods = [pod("p1"), pod("p2"), pod("p3")];
    for (paths, mark, key, value, what) in [
        (&pods[..], annotate, "purechaos.dev/exclude", "yes", "the Pod asks"),
        (&pods, label, "purechaos.dev/exclude", "true", "the Pod asks"),
        (&[WEB.to_owned()], annotate, "purechaos.dev/exclude", "until-friday", "its workload asks"),
        (&[WEB.to_owned()], label, "purechaos.dev/exclude", "true", "its workload asks"),
        (&[REPLICA_SET.to_owned()], annotate, "purechaos.dev/exclude", "true", "its ReplicaSet asks"),
        (&[REPLICA_SET.to_owned()], label, "purechaos.dev/exclude", "true", "its ReplicaSet asks"),
        (&pods, annotate, "karpenter.sh/do-not-disrupt", "4h", "the Pod asks"),
        (&pods, annotate, "karpenter.sh/do-not-evict", "true", "the Pod asks"),
        (&pods, annotate, "purechaos.dev/exlude", "true", "the Pod carries purechaos.dev/exlude"),
        (&pods, annotate, "pure-chaos.dev/exclude", "true", "the Pod carries pure-chaos.dev/exclude"),
    ] {
        let paths = paths.to_vec();
        play(async move {
            let mut stage = with(&[]);
            for path in &paths {
                stage.api.change(path, |object| mark(object, key, value));
            }
            stage.start();
            first_round().await;
            assert_eq!((stage.api.kills().len(), stage.refusals("excluded")), (0, 1.0), "{key}={value}");
            let status = stage.status();
            let sentence = status["conditions"].to_string();
            assert!(sentence.contains(what) && sentence.contains(key), "{key}={value}: {status}");
        });
    }
    play(async move {
        let mut stage = with(&[]);
        for name in ["p1", "p2", "p3"] {
            stage.api.change(&pod(name), |pod| {
                annotate(pod, "purechaos.dev/exclude", "false");
                pod["spec"]["priorityClassName"] =
                    json!(if name == "p2" { "high" } else { "system-cluster-critical" });
            });
        }
        stage.start();
        first_round().await;
        assert_eq!(stage.victim(), "p2", "which is not critical");
        assert_eq!(stage.refusals("excluded"), 1.0);
    });
}

#[test]
fn a_setting_past_a_ceiling_that_was_lowered_stops_the_kills() {
    play(async {
        let mut stage = with(&[("limit", "3")]);
        stage.policy = PlatformPolicy::parse("ceilings: {limit: 2}").unwrap();
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("unknown_setting")), (0, 1.0));
        assert!(stage.api.get(NAMESPACE).is_some());
    });
}

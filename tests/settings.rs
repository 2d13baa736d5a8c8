//! What the settings of a namespace and the platform's policy make the agent do, in virtual time.

use std::time::Duration;

use policy::platform::PlatformPolicy;
use serde_json::{Value, json};
use tests::api::Answer;
use tests::stage::{FIRST_SLOT, NAMESPACE, Stage, first_round, pass, play, pod};

/// A stage on which the namespace has these settings beside `chaos=yes`.
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
        // It ends between the beginning of the round and the last look.
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
        // A tenth of a promille a minute.
        let mut stage = with(&[("schedule", "mtbf 7d")]);
        stage.start();
        pass(Duration::from_secs(1_800)).await;
        assert!(stage.rounds("no_candidate") >= 29.0);
        assert_eq!((stage.api.kills().len(), stage.rounds("refused")), (0, 0.0));
        assert_eq!(stage.status()["state"], "active");
    });
    play(async {
        // Two of three minutes.
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
        for (kind, name) in [("deployments", "db"), ("replicasets", "db-1")] {
            let mut copy = stage
                .api
                .get(&format!("/apis/apps/v1/namespaces/a/{kind}/{}", name.replace("db", "web")))
                .unwrap();
            copy["metadata"]["name"] = json!(name);
            copy["metadata"]["uid"] = json!(format!("{name}-uid"));
            if kind == "replicasets" {
                let owner = &mut copy["metadata"]["ownerReferences"][0];
                (owner["name"], owner["uid"]) = (json!("db"), json!("db-uid"));
            }
            stage.api.put(&format!("/apis/apps/v1/namespaces/a/{kind}/{name}"), copy);
        }
        for name in ["d1", "d2", "d3"] {
            stage.add_pod(name, true);
            stage.api.change(&pod(name), |pod| {
                let owner = &mut pod["metadata"]["ownerReferences"][0];
                (owner["name"], owner["uid"]) = (json!("db-1"), json!("db-1-uid"));
            });
        }
        stage.start();
        first_round().await;
        assert_eq!((stage.api.kills().len(), stage.refusals("budget_spent")), (1, 1.0));
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
        // The same after a restart: the record tells the deadline.
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

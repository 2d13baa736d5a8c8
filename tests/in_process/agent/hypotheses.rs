//! The checks of the steady state during a recovery, in virtual time: what becomes of the hypothesis
//! that they hold, and what follows from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use policy::platform::PlatformPolicy;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{RECORD, Stage, first_round, pass, play, pod};

/// A stage whose namespace chose a check of its Service `web`, and the status with which the Service
/// answers. 0 means that it doesn't answer.
fn with(annotations: &[(&str, &str)]) -> (Stage, Arc<AtomicU16>) {
    let mut stage = Stage::opted_in();
    let policy = "steadyState: {web-answers: {http: {service: web, port: http}}}";
    stage.policy = PlatformPolicy::parse(policy).unwrap();
    let chosen = [("chaos", "yes"), ("purechaos.dev/steady-state", "web-answers")];
    stage.opt_in(&[&chosen, annotations].concat());
    let status = Arc::new(AtomicU16::new(200));
    let answered = Arc::clone(&status);
    stage.api.intercept(move |call| {
        let is_check = call.path.contains("/services/web:http/proxy/");
        is_check.then(|| match answered.load(Ordering::Relaxed) {
            0 => Answer::After(Duration::from_secs(3_600)),
            200 => Answer::Object(json!({})),
            code => Answer::Status(code, json!({})),
        })
    });
    (stage, status)
}

fn hypotheses(stage: &Stage, outcome: &str) -> Option<f64> {
    stage.metric(&format!(
        "pure_chaos_hypotheses_total{{check=\"web-answers\",outcome=\"{outcome}\",target_namespace=\"a\",workload=\"web\",workload_kind=\"Deployment\"}}"
    ))
}

/// How often the check was asked.
fn asked(stage: &Stage) -> usize {
    stage.api.calls().iter().filter(|call| call.path.contains("/services/web:http/proxy/")).count()
}

/// Puts a Ready Pod in the victim's place.
async fn recover(stage: &Stage) {
    stage.replace(&stage.victim(), "p4");
    pass(Duration::from_millis(100)).await;
}

#[test]
fn a_check_that_holds_is_sampled_each_second_until_the_recovery_ends() {
    play(async {
        let (mut stage, _status) = with(&[]);
        stage.start();
        first_round().await;
        for outcome in ["held", "broken", "unknown"] {
            assert_eq!(hypotheses(&stage, outcome), Some(0.0), "begins at zero");
        }
        assert_eq!(stage.status()["pending"][0]["checks"], json!([{"check": "web-answers"}]));
        pass(Duration::from_secs(20)).await;
        // Once before the round, once at the kill, and then each second.
        assert!((21..=23).contains(&asked(&stage)), "{}", asked(&stage));
        recover(&stage).await;
        assert_eq!((stage.recoveries("recovered"), hypotheses(&stage, "held")), (1.0, Some(1.0)));
        let counts = json!([{"check": "web-answers", "held": 1, "broken": 0, "unknown": 0}]);
        assert_eq!(stage.status()["hypotheses"], counts);
        let note = stage.api.notes().into_iter().find(|note| note.contains(" recovered ")).unwrap();
        assert!(note.ends_with("; check `web-answers` held"), "{note}");
        let after = asked(&stage);
        pass(Duration::from_secs(20)).await;
        assert_eq!(asked(&stage), after, "nobody samples after the recovery");
        stage.stop().await;
    });
}

#[test]
fn a_check_that_breaks_is_told_with_its_time_and_the_workload_backs_off() {
    play(async {
        let (mut stage, status) = with(&[]);
        stage.start();
        first_round().await;
        pass(Duration::from_secs(2)).await;
        status.store(503, Ordering::Relaxed);
        pass(Duration::from_secs(1)).await;
        // The Event comes at once, and the record has it for the next process.
        let notes = stage.api.notes();
        let note = notes.iter().find(|note| note.starts_with("Check `web-answers` broke")).unwrap();
        let after: f64 =
            note.split_once(" broke ").unwrap().1.split_once(" s after").unwrap().0.parse().unwrap();
        assert!((2.0..3.5).contains(&after), "{note}");
        assert!(stage.status()["pending"][0]["checks"][0]["broken"]["saw"].is_string(), "at once");
        status.store(200, Ordering::Relaxed);
        pass(Duration::from_secs(10)).await;
        recover(&stage).await;
        assert_eq!((stage.recoveries("recovered"), hypotheses(&stage, "broken")), (1.0, Some(1.0)));
        assert_eq!(stage.status()["hypotheses"][0]["broken"], 1);
        assert_eq!(stage.status()["hypotheses"][0]["lastBroken"]["workload"]["name"], "web");
        assert_eq!(stage.status()["backingOff"][0]["workload"]["name"], "web");
        let broken = stage.api.notes().iter().filter(|note| note.starts_with("Check ")).count();
        assert_eq!(broken, 1, "one Event for the first sample");
        pass(Duration::from_secs(700)).await;
        assert_eq!((stage.refusals("backing_off"), stage.api.kills().len()), (1.0, 1));
        stage.stop().await;
    });
}

#[test]
fn nobody_claims_that_a_check_held_that_was_not_answered() {
    for (answer, outcome) in [(0, "unknown"), (403, "unknown"), (200, "held")] {
        play(async move {
            let (mut stage, status) = with(&[]);
            stage.start();
            first_round().await;
            status.store(answer, Ordering::Relaxed);
            pass(Duration::from_secs(4)).await;
            status.store(200, Ordering::Relaxed);
            pass(Duration::from_secs(4)).await;
            recover(&stage).await;
            assert_eq!(hypotheses(&stage, outcome), Some(1.0), "{answer}");
            assert_eq!(stage.status()["backingOff"], Value::Null, "only a break makes a workload rest");
            stage.stop().await;
        });
    }
}

#[test]
fn a_question_that_is_open_at_the_end_is_waited_for() {
    play(async {
        let (mut stage, status) = with(&[]);
        stage.start();
        first_round().await;
        pass(Duration::from_secs(5)).await;
        status.store(0, Ordering::Relaxed);
        pass(Duration::from_secs(1)).await;
        recover(&stage).await;
        assert_eq!(stage.recoveries("recovered"), 0.0, "it waits for the last answer");
        pass(Duration::from_secs(3)).await;
        assert_eq!((stage.recoveries("recovered"), hypotheses(&stage, "unknown")), (1.0, Some(1.0)));
        let sum = "pure_chaos_recovery_seconds_sum{target_namespace=\"a\",workload_kind=\"Deployment\"}";
        let sum = stage.metric(sum).unwrap();
        assert!((6.0..7.0).contains(&sum), "the time is not longer for that: {sum}");
        stage.stop().await;
    });
}

#[test]
fn a_break_survives_the_process_and_a_check_that_nobody_sampled_is_unknown() {
    for (code, outcome) in [(503, "broken"), (200, "unknown")] {
        play(async move {
            let (mut stage, status) = with(&[]);
            stage.start();
            first_round().await;
            status.store(code, Ordering::Relaxed);
            pass(Duration::from_secs(6)).await;
            status.store(200, Ordering::Relaxed);
            stage.stop().await;
            stage.start();
            pass(Duration::from_secs(5)).await;
            recover(&stage).await;
            pass(Duration::from_secs(6)).await;
            assert_eq!(stage.recoveries("recovered_after_restart"), 1.0);
            assert_eq!(hypotheses(&stage, outcome), Some(1.0), "{code}");
            stage.stop().await;
        });
    }
}

#[test]
fn a_check_that_breaks_in_the_middle_of_a_round_ends_the_round() {
    for (abort, kills) in [("true", 1), ("false", 2)] {
        play(async move {
            let (mut stage, status) =
                with(&[("purechaos.dev/limit", "2"), ("purechaos.dev/abort-on-broken", abort)]);
            stage.add_workload("api", &["q1", "q2", "q3"]);
            let broken = Arc::clone(&status);
            // The service fails as soon as the first Pod is evicted.
            stage.api.before("POST", "/eviction", move |_| broken.store(503, Ordering::Relaxed));
            stage.start();
            first_round().await;
            assert_eq!(stage.api.kills().len(), kills, "abort-on-broken {abort}");
            assert_eq!(stage.refusals("not_steady"), f64::from(u8::from(abort == "true")));
            assert_eq!(stage.rounds("killed"), 1.0);
            stage.stop().await;
        });
    }
}

#[test]
fn an_opt_out_ends_the_samples() {
    play(async {
        let (mut stage, _status) = with(&[]);
        stage.start();
        first_round().await;
        pass(Duration::from_secs(3)).await;
        stage.api.remove(RECORD);
        pass(Duration::from_secs(10)).await;
        let after = asked(&stage);
        pass(Duration::from_secs(10)).await;
        assert_eq!(asked(&stage), after);
        assert!(stage.api.get(&pod("p1")).is_some());
        stage.stop().await;
    });
}

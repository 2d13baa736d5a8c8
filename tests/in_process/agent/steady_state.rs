//! The checks of the steady state before a round, in virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use policy::platform::PlatformPolicy;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{Stage, first_round, pass, play};

const POLICY: &str = r#"
prometheus: monitoring/prometheus:9090
steadyState:
  no-alert: {prometheus: 'absent(ALERTS{alertstate="firing"})'}
  mine: {prometheus: 'up{namespace="$namespace"}'}
  web-answers: {http: {service: web, port: http, path: /healthz}}
"#;

/// A stage whose namespace chose these checks.
fn with(checks: &str) -> Stage {
    let mut stage = Stage::opted_in();
    stage.policy = PlatformPolicy::parse(POLICY).unwrap();
    stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/steady-state", checks)]);
    stage
}

/// An answer of Prometheus with these samples.
fn samples(values: &[&str]) -> Answer {
    let samples: Vec<Value> =
        values.iter().map(|value| json!({"metric": {}, "value": [1_764_000_000, value]})).collect();
    Answer::Object(json!({"status": "success", "data": {"resultType": "vector", "result": samples}}))
}

/// The queries that Prometheus received.
fn queries(stage: &Stage) -> Vec<String> {
    let of_prometheus = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query";
    let calls = stage.api.calls().into_iter().filter(|call| call.path == of_prometheus);
    calls.map(|call| call.query["query"].clone()).collect()
}

#[test]
fn a_round_waits_until_its_checks_hold() {
    play(async {
        let mut stage = with("no-alert,web-answers");
        let (is_calm, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (calm, web) = (Arc::clone(&is_calm), Arc::clone(&answers));
        stage.api.intercept(move |call| match call.path.as_str() {
            path if path.ends_with("/query") => {
                Some(samples(if calm.load(Ordering::Relaxed) { &["1"] } else { &[] }))
            }
            path if path.ends_with("/namespaces/a/services/web:http/proxy/healthz") => {
                Some(if web.load(Ordering::Relaxed) {
                    Answer::Object(json!({}))
                } else {
                    Answer::Status(503, json!({}))
                })
            }
            _ => None,
        });
        stage.start();
        first_round().await;
        assert_eq!(stage.refusals("not_steady"), 1.0);
        let status = stage.status();
        assert_eq!(status["state"], "not_steady");
        let message = status["conditions"][0]["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("check `no-alert` does not hold: the result of its expression is empty"),
            "{message}"
        );
        assert!(
            message.contains("check `web-answers` does not hold: the fault that was asked for"),
            "{message}"
        );
        is_calm.store(true, Ordering::Relaxed);
        pass(Duration::from_secs(600)).await;
        assert_eq!(
            (stage.refusals("not_steady"), stage.api.kills().len()),
            (2.0, 0),
            "one of two is not enough"
        );
        answers.store(true, Ordering::Relaxed);
        pass(Duration::from_secs(600)).await;
        assert_eq!((stage.status()["state"].as_str(), stage.api.kills().len()), (Some("active"), 1));
        stage.stop().await;
    });
}

#[test]
fn no_answer_in_time_refuses_and_holds_nothing_up() {
    for answer in [
        Answer::After(Duration::from_secs(3_600)),
        Answer::Status(403, Value::Null),
        Answer::Status(503, Value::Null),
        Answer::Object(json!({"status": "error", "error": "query timed out"})),
    ] {
        play(async move {
            let mut stage = with("no-alert");
            let told = answer.clone();
            stage.api.intercept(move |call| call.path.ends_with("/query").then(|| told.clone()));
            stage.start();
            first_round().await;
            pass(Duration::from_secs(5)).await;
            assert_eq!(stage.refusals("steady_state_unknown"), 1.0, "{answer:?}");
            assert_eq!(stage.status()["state"], "steady_state_unknown", "{answer:?}");
            pass(Duration::from_secs(600)).await;
            assert_eq!((stage.refusals("steady_state_unknown"), stage.api.kills().len()), (2.0, 0));
            stage.stop().await;
        });
    }
}

#[test]
fn namespaces_that_ask_the_same_share_one_answer() {
    play(async {
        let mut stage = with("no-alert");
        stage.copy_namespaces("n", 499);
        stage.api.intercept(|call| call.path.ends_with("/query").then(|| samples(&[])));
        stage.start();
        first_round().await;
        let metrics = prometheus::TextEncoder::new().encode_to_string(&stage.registry.gather()).unwrap();
        let refused = |line: &&str| {
            line.starts_with("pure_chaos_refusals_total{reason=\"not_steady\"") && line.ends_with(" 1")
        };
        assert_eq!(metrics.lines().filter(refused).count(), 500);
        assert_eq!(queries(&stage).len(), 1);
        stage.stop().await;
    });
}

#[test]
fn each_namespace_asks_what_names_it() {
    play(async {
        let mut stage = with("mine");
        stage.copy_namespaces("n", 49);
        stage.api.intercept(|call| call.path.ends_with("/query").then(|| samples(&["1"])));
        stage.start();
        first_round().await;
        let asked: BTreeSet<String> = queries(&stage).into_iter().collect();
        assert!(asked.contains("up{namespace=\"n7\"}"), "{asked:?}");
        assert_eq!(asked.len(), 50);
        assert!(stage.rounds("killed") > 0.0);
        stage.stop().await;
    });
}

#[test]
fn who_chose_no_checks_asks_nobody() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.policy = PlatformPolicy::parse(POLICY).unwrap();
        stage.start();
        first_round().await;
        assert_eq!((queries(&stage).len(), stage.api.kills().len()), (0, 1));
        stage.stop().await;
    });
}

//! What the agent reports about a halt of everything, in virtual time against a fake API in this
//! process.

use std::time::Duration;

use agent::controller::halt::observe_halt;
use agent::telemetry::activity::Halt;
use prometheus::Registry;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{RECORD, SYSTEM, Stage, pass, play};

fn halt(stage: &Stage, text: Value) {
    let annotations = if text.is_null() { json!({}) } else { json!({"purechaos.dev/halt": text}) };
    stage.api.change(SYSTEM, |system| system["metadata"]["annotations"] = annotations);
}

#[test]
fn each_halt_is_told_once_with_its_own_reason() {
    play(async {
        let stage = Stage::opted_in();
        tokio::spawn(observe_halt(stage.context(&Registry::new()), stage.end.clone()));
        halt(&stage, json!("incident 4711"));
        pass(Duration::from_secs(5)).await;
        halt(&stage, Value::Null);
        pass(Duration::from_secs(5)).await;
        halt(&stage, json!("incident 4712"));
        pass(Duration::from_secs(5)).await;
        halt(&stage, json!("incident 4712, still"));
        pass(Duration::from_secs(5)).await;
        assert_eq!(
            stage.api.notes(),
            [
                "Every kill is halted: incident 4711",
                "The halt ended: rounds may kill again",
                "Every kill is halted: incident 4712",
                "Every kill is halted: incident 4712, still"
            ]
        );
    });
}

#[test]
fn a_halt_is_not_told_again_after_an_outage() {
    play(async {
        let stage = Stage::opted_in();
        tokio::spawn(observe_halt(stage.context(&Registry::new()), stage.end.clone()));
        halt(&stage, json!("incident 4711"));
        pass(Duration::from_secs(5)).await;
        stage.api.fail("LIST", "/api/v1/namespaces", 3, Answer::Status(500, Value::Null));
        pass(Duration::from_secs(120)).await;
        assert_eq!(stage.api.notes(), ["Every kill is halted: incident 4711"]);
    });
}

#[test]
fn a_long_reason_is_cut_to_what_an_event_may_hold() {
    play(async {
        let stage = Stage::opted_in();
        tokio::spawn(observe_halt(stage.context(&Registry::new()), stage.end.clone()));
        halt(&stage, json!("ü".repeat(5_000)));
        pass(Duration::from_secs(5)).await;
        let [note] = &stage.api.notes()[..] else { panic!("{:?}", stage.api.notes()) };
        assert!((1_022..=1_024).contains(&note.len()) && note.ends_with("ü…"), "{}", note.len());
    });
}

const MOMENT: Duration = Duration::from_millis(200);

/// A namespace whose next round is hours away.
fn rarely(settings: &[(&str, &str)]) -> Stage {
    let stage = Stage::opted_in();
    let rarely = [("chaos", "yes"), ("purechaos.dev/schedule", "every 24h")];
    stage.opt_in(&[&rarely[..], settings].concat());
    stage
}

#[test]
fn a_halt_of_everything_is_in_the_state_of_each_namespace_while_it_lasts() {
    play(async {
        let mut stage = rarely(&[]);
        stage.start();
        tokio::spawn(observe_halt(stage.context(&Registry::new()), stage.end.clone()));
        pass(Duration::from_secs(2)).await;
        assert_eq!(stage.status()["state"], "active");
        halt(&stage, json!("incident 4711"));
        pass(Duration::from_secs(2)).await;
        assert_eq!(*stage.halt.borrow(), Halt::Yes("incident 4711".to_owned()));
        assert_eq!(stage.status()["state"], "halted");
        let conditions = stage.status()["conditions"].to_string();
        assert!(conditions.contains("incident 4711"), "{conditions}");
        halt(&stage, Value::Null);
        pass(Duration::from_secs(2)).await;
        assert_eq!(stage.status()["state"], "active");
    });
}

#[test]
fn a_namespaces_own_halt_is_in_its_state_while_it_lasts() {
    play(async {
        let mut stage = rarely(&[]);
        stage.halt.send_replace(Halt::No);
        stage.start();
        pass(MOMENT).await;
        stage.api.change(RECORD, |record| record["spec"]["halt"] = json!("incident 4711"));
        pass(MOMENT).await;
        assert_eq!(stage.status()["state"], "halted");
        stage.api.change(RECORD, |record| record["spec"]["halt"] = Value::Null);
        pass(MOMENT).await;
        assert_eq!(stage.status()["state"], "active");
    });
}

#[test]
fn the_state_follows_the_active_hours_also_between_rounds() {
    play(async {
        // The hours are 12:05 to 12:10 UTC.
        let mut stage = rarely(&[("purechaos.dev/active-hours", "Mon-Fri 13:05-13:10 Europe/Berlin")]);
        stage.start();
        let mut states = Vec::new();
        for minutes in [1, 5, 5] {
            pass(Duration::from_secs(60 * minutes)).await;
            states.push(stage.status()["state"].as_str().unwrap().to_owned());
        }
        assert_eq!(states, ["outside_active_hours", "active", "outside_active_hours"]);
    });
}

#[test]
fn rights_that_the_webhook_could_not_give_are_in_the_state_with_its_reason() {
    play(async {
        let mut stage = rarely(&[]);
        stage.start();
        pass(MOMENT).await;
        stage.api.change(RECORD, |record| record["spec"]["reason"] = json!("exceeded quota: q"));
        pass(MOMENT).await;
        assert_eq!(stage.status()["state"], "no_rights");
        assert!(stage.status()["conditions"].to_string().contains("exceeded quota: q"));
        stage.api.change(RECORD, |record| record["spec"]["reason"] = Value::Null);
        pass(MOMENT).await;
        assert_eq!(stage.status()["state"], "active");
    });
}

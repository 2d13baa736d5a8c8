//! What people are told of a halt of everything, against an API in this process, in virtual time.

use std::time::Duration;

use agent::halt::observe_halt;
use prometheus::Registry;
use serde_json::{Value, json};
use tests::api::Answer;
use tests::stage::{SYSTEM, Stage, pass, play};

fn halt(stage: &Stage, text: Value) {
    stage.api.change(SYSTEM, |system| system["metadata"]["annotations"]["purechaos.dev/halt"] = text);
}

#[test]
fn each_halt_is_told_once_with_its_own_reason() {
    play(async {
        let stage = Stage::opted_in();
        tokio::spawn(observe_halt(stage.deps(&Registry::new()), stage.end.clone()));
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
        tokio::spawn(observe_halt(stage.deps(&Registry::new()), stage.end.clone()));
        halt(&stage, json!("incident 4711"));
        pass(Duration::from_secs(5)).await;
        stage.api.fail("GET", SYSTEM, 3, Answer::Status(500, Value::Null));
        pass(Duration::from_secs(5)).await;
        assert_eq!(stage.api.notes(), ["Every kill is halted: incident 4711"]);
    });
}

#[test]
fn a_long_reason_is_cut_to_what_an_event_may_hold() {
    play(async {
        let stage = Stage::opted_in();
        tokio::spawn(observe_halt(stage.deps(&Registry::new()), stage.end.clone()));
        halt(&stage, json!("ü".repeat(5_000)));
        pass(Duration::from_secs(5)).await;
        let [note] = &stage.api.notes()[..] else { panic!("{:?}", stage.api.notes()) };
        assert!((1_022..=1_024).contains(&note.len()) && note.ends_with("ü…"), "{}", note.len());
    });
}

//! `agent once` in virtual time, against a fake API in this process: what is due, what it spends,
//! and what it carries on.

use std::sync::Arc;
use std::time::Duration;

use agent::controller::namespace::NamespaceTask;
use agent::controller::namespace::visit::{Asked, Visit};
use agent::once::output::{ended_line, visit_lines};
use policy::record::OptIn;
use prometheus::Registry;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde_json::{Value, json};
use tests::fake_api::Answer;
use tests::stage::{FIRST_SLOT, RECORD, Stage, pass, play};
use tokio_util::sync::CancellationToken;

const DUE: Asked = Asked { now: false, dry_run: false };
const NOW: Asked = Asked { now: true, dry_run: false };
const DRY: Asked = Asked { now: false, dry_run: true };

/// A new process, like each `agent once`.
fn process(stage: &Stage) -> NamespaceTask {
    let record: OptIn = serde_json::from_value(stage.api.get(RECORD).unwrap()).unwrap();
    let (rng, end) = (ChaCha8Rng::seed_from_u64(1), CancellationToken::new());
    NamespaceTask::new(stage.context(&Registry::new()), "a".to_owned(), Arc::new(record), rng, end)
}

/// Visits the namespace, and returns the lines that `agent once` prints.
async fn visit(stage: &Stage, asked: Asked) -> Vec<String> {
    let mut task = process(stage);
    let (visit, ended) = task.visit(asked).await;
    ended.iter().map(|ended| ended_line("a", ended)).chain(visit_lines("a", &visit)).collect()
}

fn own_schedule() -> Stage {
    let stage = Stage::opted_in();
    stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 10m")]);
    // The opt-in is as old as the stage.
    let mut record = stage.api.get(RECORD).unwrap();
    record["metadata"]["creationTimestamp"] = json!("2026-11-23T12:00:00Z");
    stage.api.put(RECORD, record);
    stage
}

#[test]
fn without_a_schedule_of_its_own_a_namespace_is_always_due() {
    play(async {
        let stage = Stage::opted_in();
        let lines = visit(&stage, DUE).await;
        let victim = stage.victim();
        assert_eq!(lines, [format!("a: killed Pod {victim} of Deployment web")]);
        assert_eq!(stage.status()["lastSlot"], "2026-11-23T12:00:00Z");
        assert_eq!(stage.status()["kills"], 1);

        // The next process finds the recovery pending. A later process finds that it has ended.
        pass(Duration::from_secs(60)).await;
        let lines = visit(&stage, DUE).await;
        assert!(lines[0].starts_with("a: refused Deployment web: "), "{lines:?}");
        assert_eq!(stage.api.kills().len(), 1);
        stage.replace(&victim, "p4");
        pass(Duration::from_secs(60)).await;
        let lines = visit(&stage, DUE).await;
        let recovered =
            format!("a: recovered Deployment web after Pod {victim} was killed; the time was not measured");
        assert_eq!(lines[0], recovered);
        assert!(lines[1].starts_with("a: killed Pod p"), "{lines:?}");
        assert_eq!(stage.status()["outcomes"], json!({"recovered_after_restart": 1}));
    });
}

#[test]
fn a_schedule_of_its_own_is_kept_and_each_slot_served_once() {
    play(async {
        let stage = own_schedule();
        assert_eq!(visit(&stage, DUE).await, ["a: no round is due before 2026-11-23T12:04:44.363Z"]);
        pass(FIRST_SLOT + Duration::from_secs(200)).await;
        let lines = visit(&stage, DUE).await;
        assert!(lines[0].starts_with("a: killed Pod "), "{lines:?}");
        assert_eq!(stage.status()["lastSlot"], "2026-11-23T12:04:44.363Z");
        stage.replace(&stage.victim(), "p4");
        pass(Duration::from_secs(90)).await;
        let lines = visit(&stage, DUE).await;
        assert!(lines[1].starts_with("a: no round is due before "), "{lines:?}");
        assert_eq!(stage.api.kills().len(), 1);
        // `--now` asks for a round all the same.
        let lines = visit(&stage, NOW).await;
        assert!(lines[0].starts_with("a: killed Pod "), "{lines:?}");
    });
}

#[test]
fn a_slot_from_before_the_opt_in_is_not_due() {
    play(async {
        let stage = own_schedule();
        let mut record = stage.api.get(RECORD).unwrap();
        pass(FIRST_SLOT + Duration::from_secs(60)).await;
        record["metadata"]["creationTimestamp"] = json!("2026-11-23T12:05:00Z");
        stage.api.put(RECORD, record);
        let lines = visit(&stage, DUE).await;
        assert!(lines[0].starts_with("a: no round is due before "), "{lines:?}");
    });
}

#[test]
fn a_dry_run_sends_one_and_spends_nothing() {
    play(async {
        let stage = Stage::opted_in();
        let lines = visit(&stage, DRY).await;
        assert!(lines[0].starts_with("a: dry run: would have killed Pod "), "{lines:?}");
        let sent = stage.api.kills();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].body["deleteOptions"]["dryRun"], json!(["All"]));
        let status = stage.status();
        assert_eq!(
            (&status["lastSlot"], &status["kills"], &status["intents"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
    });
}

#[test]
fn whoever_waits_sees_the_recovery_measured() {
    play(async {
        let stage = Stage::opted_in();
        let mut task = process(&stage);
        let (visit, _) = task.visit(DUE).await;
        assert!(matches!(visit, Visit::Round(_)));
        let victim = stage.victim();
        let end = CancellationToken::new();
        let recover = async {
            pass(Duration::from_millis(2_500)).await;
            stage.replace(&victim, "p4");
        };
        let (ended, ()) = tokio::join!(task.wait(&end), recover);
        let lines: Vec<String> = ended.iter().map(|ended| ended_line("a", ended)).collect();
        assert_eq!(lines, [format!("a: recovered Deployment web 2.5 s after Pod {victim} was killed")]);
    });
}

#[test]
fn whoever_waits_for_nothing_is_told_at_the_deadline() {
    play(async {
        let stage = Stage::opted_in();
        let mut task = process(&stage);
        drop(task.visit(DUE).await);
        let victim = stage.victim();
        let ended = task.wait(&CancellationToken::new()).await;
        let lines: Vec<String> = ended.iter().map(|ended| ended_line("a", ended)).collect();
        assert_eq!(
            lines,
            [format!("a: timed_out Deployment web did not recover in time after Pod {victim} was killed")]
        );
    });
}

#[test]
fn the_next_run_keeps_the_rest_after_a_conflict() {
    play(async {
        let stage = Stage::opted_in();
        stage.api.fail("POST", "/eviction", 1, Answer::Status(409, Value::Null));
        for (wait, tries) in [(0, 1), (60, 1), (59, 1), (2, 2)] {
            pass(Duration::from_secs(wait)).await;
            let lines = visit(&stage, DUE).await;
            assert_eq!(stage.api.kills().len(), tries, "{lines:?}");
        }
    });
}

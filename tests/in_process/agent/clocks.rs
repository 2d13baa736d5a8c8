//! The agent, its slots, and a wall clock that can't be trusted, in virtual time against a fake API
//! in this process.

use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tests::stage::{RECORD, Stage, UID, first_round, noon, pass, play};

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
/// One minute.
const MINUTES: Duration = Duration::from_secs(60);

/// The slots that the agent spent, in the order in which it tried to spend them.
fn spent(stage: &Stage) -> Vec<Timestamp> {
    let calls = stage.api.calls();
    let spends =
        calls.iter().filter(|call| call.verb == "PATCH" && call.body["status"]["intents"].is_array());
    spends.filter_map(|call| call.body["status"]["lastSlot"].as_str()?.parse().ok()).collect()
}

/// The rounds of this process, with any outcome.
fn rounds(stage: &Stage) -> f64 {
    ["killed", "dry_run", "refused", "no_candidate", "failed"]
        .iter()
        .map(|outcome| stage.rounds(outcome))
        .sum()
}

/// Replaces killed Pods, as a Deployment does.
fn replace_victims(stage: &Stage, replaced: &mut usize) {
    for call in stage.api.kills().iter().skip(*replaced) {
        let victim = call.path.trim_end_matches("/eviction");
        if stage.api.get(victim).is_some() {
            stage.api.remove(victim);
            stage.add_pod(&format!("new-{replaced}"), true);
        }
        *replaced += 1;
    }
}

#[test]
fn a_clock_that_steps_back_makes_no_second_round() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        assert_eq!(rounds(&stage), 1.0);
        let mut replaced = 0;
        replace_victims(&stage, &mut replaced);
        // The same slot comes again, and so do the slots before it.
        stage.clock.step(-HOUR);
        pass(60 * MINUTES).await;
        assert_eq!((rounds(&stage), stage.api.kills().len()), (1.0, 1));
        // An hour later the clock is back where it was, and the rounds go on.
        pass(11 * MINUTES).await;
        assert_eq!(spent(&stage).len(), 2);
    });
}

#[test]
fn a_restart_with_a_clock_that_is_behind_makes_no_second_round() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let mut replaced = 0;
        replace_victims(&stage, &mut replaced);
        pass(Duration::from_secs(10)).await;
        stage.stop().await;
        stage.clock.step(-20 * SECOND);
        stage.start();
        pass(5 * MINUTES).await;
        assert_eq!((rounds(&stage), spent(&stage).len()), (0.0, 1), "the record remembers it");
        pass(5 * MINUTES).await;
        assert_eq!(spent(&stage).len(), 2);
    });
}

#[test]
fn a_clock_that_steps_ahead_makes_no_burst() {
    // Steps of a day, of just enough to miss a slot, and of just too little to miss it.
    for (ahead, expected) in [(24 * HOUR, 0.0), (300 * SECOND, 0.0), (275 * SECOND, 1.0)] {
        play(async move {
            let mut stage = Stage::opted_in();
            stage.start();
            pass(Duration::from_secs(1)).await;
            stage.clock.step(ahead);
            pass(4 * MINUTES).await;
            assert_eq!(rounds(&stage), expected, "{ahead}");
            pass(11 * MINUTES).await;
            assert!((1.0..=2.0 + expected).contains(&rounds(&stage)), "{ahead}: {}", rounds(&stage));
        });
    }
}

#[test]
fn a_lost_record_makes_no_second_round() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.start();
        first_round().await;
        let mut replaced = 0;
        replace_victims(&stage, &mut replaced);
        for _ in 0..5 {
            let mut record = stage.api.get(RECORD).unwrap();
            record["status"] = Value::Null;
            stage.api.remove(RECORD);
            pass(Duration::from_secs(1)).await;
            stage.api.put(RECORD, record);
            pass(Duration::from_secs(4)).await;
        }
        assert_eq!((rounds(&stage), spent(&stage).len()), (1.0, 1));
        pass(10 * MINUTES).await;
        assert_eq!(spent(&stage).len(), 2);
    });
}

#[test]
fn hours_of_mishaps_spend_no_slot_twice() {
    for seed in 0..4 {
        play(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut stage = Stage::opted_in();
            stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 2m")]);
            stage.start();
            let (mut replaced, mut until) = (0, Duration::ZERO);
            while until < 240 * MINUTES {
                match rng.random_range(0..10) {
                    0 => stage.clock.step(rng.random_range(-600 * SECOND..600 * SECOND)),
                    1 => {
                        stage.stop().await;
                        stage.start();
                    }
                    2 => {
                        let leads_until = stage.leadership.borrow().unwrap();
                        stage.leadership.send_replace(None);
                        pass(Duration::from_secs(rng.random_range(1..200))).await;
                        stage.leadership.send_replace(Some(leads_until));
                    }
                    _ => {}
                }
                let time = Duration::from_secs(rng.random_range(1..400));
                pass(time).await;
                until += time;
                replace_victims(&stage, &mut replaced);
            }
            let spent = spent(&stage);
            assert!(spent.len() > 15, "seed {seed}: {} slots only", spent.len());
            assert!(spent.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: {spent:?}");
        });
    }
}

#[test]
fn a_hundred_starts_just_after_slots_kill_nothing() {
    play(async {
        let mut stage = Stage::opted_in();
        stage.opt_in(&[("chaos", "yes"), ("purechaos.dev/schedule", "every 1m")]);
        // Each start comes just after a slot that an older process would have served.
        let timetable = stage.policy.settings(
            &[
                ("chaos".to_owned(), "yes".to_owned()),
                ("purechaos.dev/schedule".to_owned(), "every 1m".to_owned()),
            ]
            .into(),
        );
        let timetable = timetable.unwrap().timetable(stage.policy.ceilings.shortest_interval);
        let mut now = noon();
        for _ in 0..100 {
            let slot = timetable.next_after(UID, now).unwrap();
            let next = timetable.next_after(UID, slot).unwrap();
            pass(Duration::try_from(slot.duration_since(now)).unwrap() + Duration::from_millis(1)).await;
            stage.start();
            let rest = Duration::try_from(next.duration_since(slot)).unwrap() - Duration::from_secs(1);
            pass(rest).await;
            // A round of a new process would fail, because no Pods are watched yet. But no round
            // should begin at all.
            assert_eq!(rounds(&stage), 0.0);
            stage.stop().await;
            now = slot.checked_add(rest + Duration::from_millis(1)).unwrap();
        }
        assert_eq!((stage.api.kills().len(), spent(&stage).len()), (0, 0));
    });
}

use super::*;

fn decision(sentence: &str) -> Decision {
    Decision {
        at: Timestamp::UNIX_EPOCH,
        namespace: "a".to_owned(),
        workload: String::new(),
        pod: String::new(),
        what: DecisionKind::Nothing,
        sentence: sentence.to_owned(),
    }
}

#[test]
fn the_newest_are_kept_and_nothing_grows() {
    let activity_log = ActivityLog::default();
    activity_log.begin("a");
    for n in 0..120 {
        activity_log.decide(decision(&n.to_string()));
        let duration = Some(Duration::from_secs(n));
        activity_log.ended("a", EndedLine { outcome: RecoveryOutcome::Recovered, duration });
    }
    let snapshot = activity_log.snapshot();
    assert_eq!(snapshot.decisions.len(), DECISIONS);
    assert_eq!(snapshot.decisions[0].last.sentence, "119");
    assert_eq!(snapshot.decisions[DECISIONS - 1].last.sentence, "70");
    let recoveries = &snapshot.namespaces["a"].recoveries;
    let seconds = |at: usize| recoveries[at].duration.unwrap().as_secs();
    assert_eq!((recoveries.len(), seconds(0), seconds(RECOVERIES - 1)), (RECOVERIES, 100, 119));
}

#[test]
fn what_is_told_late_stands_where_it_belongs() {
    let activity_log = ActivityLog::default();
    for second in [1_000, 1, 3, 2, 4, 2] {
        let at = Timestamp::from_second(second).unwrap();
        activity_log.decide(Decision { at, what: DecisionKind::Killed, ..decision("") });
    }
    let seconds: Vec<i64> =
        activity_log.snapshot().decisions.iter().map(|line| line.last.at.as_second()).collect();
    assert_eq!(seconds, [4, 3, 2, 2, 1, 1_000], "the first by a clock that was set back since");
}

#[test]
fn what_is_said_again_is_counted_and_a_kill_never_is() {
    let activity_log = ActivityLog::default();
    let refused = DecisionKind::Refused("too_young");
    for (second, what, sentence) in [
        (1, refused, "a"),
        (2, DecisionKind::Killed, "mode evict"),
        (3, refused, "a"),
        (4, DecisionKind::Killed, "mode evict"),
        (5, refused, "b"),
        (6, refused, "a"),
    ] {
        let at = Timestamp::from_second(second).unwrap();
        activity_log.decide(Decision { at, what, ..decision(sentence) });
    }
    let lines = activity_log.snapshot().decisions;
    let lines: Vec<(i64, u32, i64)> =
        lines.iter().map(|line| (line.last.at.as_second(), line.times, line.since.as_second())).collect();
    assert_eq!(lines, [(6, 3, 1), (5, 1, 5), (4, 1, 4), (2, 1, 2)]);
}

#[test]
fn long_texts_are_cut_between_characters() {
    let activity_log = ActivityLog::default();
    activity_log.set_halt(Some(&"é".repeat(100_000)));
    let Halt::Yes(text) = activity_log.snapshot().halt else { panic!("halted") };
    assert_eq!(text, format!("{}…", "é".repeat(SENTENCE / 2 - 2)));
    activity_log.decide(decision(&"x".repeat(SENTENCE)));
    assert_eq!(activity_log.snapshot().decisions[0].last.sentence, "x".repeat(SENTENCE), "nothing to cut");
}

#[test]
fn a_namespace_that_is_gone_stays_gone() {
    let activity_log = ActivityLog::default();
    activity_log.begin("a");
    activity_log.forget("a");
    activity_log.ended("a", EndedLine { outcome: RecoveryOutcome::OptedOut, duration: None });
    assert_eq!(activity_log.snapshot(), Snapshot::default());
}

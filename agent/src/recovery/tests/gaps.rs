//! Times during which the watch showed nothing, or nobody could judge what it showed.

use super::*;

#[test]
fn after_a_gap_it_is_counted_but_not_measured() {
    for (gap_until, expected) in
        [(-1, RecoveryOutcome::Recovered), (1, RecoveryOutcome::RecoveredAfterRestart)]
    {
        let mut story = Story::new();
        let until = if gap_until < 0 {
            story.start.checked_sub(Duration::from_secs(1)).unwrap()
        } else {
            story.start + Duration::from_secs(1)
        };
        story.recovery.interrupt(until);
        story.appears("d", 2, true);
        story.recovery.pods_changed(story.start + Duration::from_secs(2));
        assert_eq!(story.judge(2), Some(expected));
        assert_eq!(story.recovery.duration().is_some(), expected == RecoveryOutcome::Recovered);
    }
}

/// The kill happened during the gap, and its answer came after it. What the watch then showed of the
/// victim was late.
#[test]
fn a_gap_between_the_question_and_the_answer_of_a_kill_makes_the_time_unknown() {
    let mut story = Story::answered_after(Duration::from_secs(5));
    let gap_until = story.start.checked_sub(Duration::from_secs(3)).unwrap();
    story.recovery.interrupt(gap_until);
    story.recovery.victim_seen_dying("a-uid", gap_until, false);
    story.appears("d", 0, true);
    story.recovery.pods_changed(story.start);
    assert_eq!(story.judge(0), Some(RecoveryOutcome::RecoveredAfterRestart));
    assert_eq!(story.recovery.duration(), None);
}

/// The first change made the Pods whole or did not: nobody could tell.
#[test]
fn a_change_that_nobody_could_judge_before_the_next_one_makes_the_time_unknown() {
    for (is_judged, expected) in
        [(true, RecoveryOutcome::Recovered), (false, RecoveryOutcome::RecoveredAfterRestart)]
    {
        let mut story = Story::new();
        let after = |seconds| story.start + Duration::from_secs(seconds);
        let (first, second) = (after(1), after(2));
        let present = story.workload_state.clone();
        story.recovery.pods_changed(first);
        let judged = if is_judged { story.judge(1) } else { story.recovery.judge(None, &present, first) };
        assert_eq!(judged, None);
        story.appears("d", 1, true);
        story.recovery.pods_changed(second);
        assert_eq!(story.judge(2), Some(expected));
    }
}

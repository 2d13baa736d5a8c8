//! Recoveries that an earlier process left.

use super::{PodView, RecoveryOutcome, Story, Timestamp, TrackedPod, pod};

/// A recovery that an earlier process left, for a workload of this kind.
fn resumed(kind: &str) -> Story {
    Story::of(kind).resumed()
}

#[test]
fn after_a_restart_the_first_look_says_which_the_others_are() {
    // At the first look the replacement does not exist yet.
    let mut story = resumed("Deployment");
    assert_eq!(story.judge(1), None);
    story.appears("d", 2, false);
    assert_eq!(story.judge(2), None);
    story.change("d", |replacement| replacement.ready = true);
    assert_eq!(story.judge(3), Some(RecoveryOutcome::RecoveredAfterRestart));

    // At the first look the replacement exists. Its creation time does not matter.
    let mut story = resumed("Deployment");
    story.appears("d", 0, false);
    story.change("d", |replacement| replacement.created = Timestamp::UNIX_EPOCH);
    assert_eq!(story.judge(1), None);
    story.change("d", |replacement| replacement.ready = true);
    assert_eq!(story.judge(2), Some(RecoveryOutcome::RecoveredAfterRestart));

    let mut story = resumed("Deployment");
    assert_eq!(story.judge(1), None);
    story.change("b", |other| other.terminating = true);
    assert_eq!(story.judge(2), Some(RecoveryOutcome::Disturbed));
}

#[test]
fn after_a_restart_a_stateful_sets_replacement_has_the_victims_name() {
    let mut story = resumed("StatefulSet");
    story.appears("d", 1, true);
    assert_eq!(story.judge(1), None, "another ordinal");
    let again = PodView { uid: "a-again".to_owned(), ..pod("a") };
    story.pods.push(TrackedPod { pod: again, first_seen: story.start });
    assert_eq!(story.judge(2), Some(RecoveryOutcome::RecoveredAfterRestart));
}

#[test]
fn after_a_restart_a_pod_too_many_at_the_kill_is_no_replacement() {
    let mut story = Story::new();
    story.recovery.others.insert("surge-uid".to_owned());
    let mut story = story.resumed();
    story.appears("surge", 0, true);
    assert_eq!(story.judge(1), None, "as many as before are Ready, and the victim has no replacement");
    let mut story = story.resumed();
    story.appears("d", 2, false);
    assert_eq!(story.judge(2), None);
    story.change("d", |replacement| replacement.ready = true);
    assert_eq!(story.judge(3), Some(RecoveryOutcome::RecoveredAfterRestart));
}

#[test]
fn after_a_restart_a_daemon_sets_replacement_has_the_victims_node() {
    let mut story = resumed("DaemonSet");
    for other in ["b", "c"] {
        story.change(other, |pod| pod.node = Some(format!("the node of {other}")));
    }
    story.appears("d", 1, true);
    story.change("d", |new| new.node = Some("a new node".to_owned()));
    assert_eq!(story.judge(1), None, "another node's");
    story.appears("e", 2, true);
    assert_eq!(story.judge(2), Some(RecoveryOutcome::RecoveredAfterRestart));
}

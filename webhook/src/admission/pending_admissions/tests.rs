use super::*;
use policy::eligibility::NamespaceView;
use runtime::clock::{Clock, TokioClock};

fn pending_admissions() -> PendingAdmissions {
    let guard = ConfigurationWatch::new(Arc::new(clock()));
    guard.configuration(Some(&serde_json::from_value(crate::fake::configuration()).unwrap()));
    PendingAdmissions::new(Arc::new(guard))
}

fn clock() -> TokioClock {
    TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap())
}

fn stored(uid: &str, value: &str, version: u64) -> Stored {
    let annotations = if value.is_empty() {
        BTreeMap::new()
    } else {
        BTreeMap::from([
            ("chaos".to_owned(), "yes".to_owned()),
            ("purechaos.dev/limit".to_owned(), value.to_owned()),
        ])
    };
    Stored {
        view: NamespaceView { name: "a".to_owned(), uid: uid.to_owned(), annotations, terminating: false },
        version,
        created: Some("2026-11-23T12:00:00Z".parse().unwrap()),
        set_by: "kubectl-annotate Update 2026-11-23T12:00:00Z".to_owned(),
    }
}

fn note(uid: Option<&str>, value: &str, user: &str) -> Note {
    Note {
        namespace: "a".to_owned(),
        uid: uid.map(str::to_owned),
        user: user.to_owned(),
        digest: stored("", value, 0).digest(),
        set_by: stored("", value, 0).set_by,
    }
}

fn user(pending_admissions: &PendingAdmissions, live: &Stored, clock: &TokioClock) -> Option<String> {
    pending_admissions.admission_of(live, clock.monotonic()).map(|admission| admission.user)
}

#[tokio::test(start_paused = true)]
async fn a_note_lasts_a_minute_and_fits_one_digest_and_uid() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    assert!(pending_admissions.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic()));
    tokio::time::sleep(LIFETIME - Duration::from_millis(1)).await;
    assert_eq!(user(&pending_admissions, &stored("1", "2", 5), &clock), None, "another digest");
    assert_eq!(
        user(&pending_admissions, &stored("2", "1", 5), &clock),
        None,
        "another namespace of that name"
    );
    assert!(pending_admissions.is_waiting(clock.monotonic()));
    assert_eq!(user(&pending_admissions, &stored("1", "1", 5), &clock).as_deref(), Some("kim"));
    assert!(!pending_admissions.is_waiting(clock.monotonic()));

    assert!(pending_admissions.remember(note(Some("1"), "3", "kim"), clock.wall(), clock.monotonic()));
    tokio::time::sleep(LIFETIME).await;
    assert_eq!(user(&pending_admissions, &stored("1", "3", 6), &clock), None, "too old");
}

#[tokio::test(start_paused = true)]
async fn concurrent_admissions_do_not_displace_each_other() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    assert!(pending_admissions.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic()));
    assert!(pending_admissions.remember(note(Some("1"), "2", "sam"), clock.wall(), clock.monotonic()));
    assert_eq!(user(&pending_admissions, &stored("1", "1", 5), &clock).as_deref(), Some("kim"));
    assert_eq!(user(&pending_admissions, &stored("1", "2", 6), &clock).as_deref(), Some("sam"));
}

#[tokio::test(start_paused = true)]
async fn without_a_uid_only_a_namespace_that_is_not_older_fits() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    assert!(pending_admissions.remember(note(None, "1", "kim"), clock.wall(), clock.monotonic()));
    let older = Stored { created: Some("2026-11-23T11:59:57Z".parse().unwrap()), ..stored("1", "1", 5) };
    assert_eq!(user(&pending_admissions, &older, &clock), None);
    pending_admissions.gone("a");
    assert_eq!(user(&pending_admissions, &stored("1", "1", 6), &clock).as_deref(), Some("kim"));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_lasts_until_the_annotations_change() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    assert!(pending_admissions.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic()));
    assert!(user(&pending_admissions, &stored("1", "1", 10), &clock).is_some());
    tokio::time::sleep(LIFETIME * 10).await;
    // A late event from before the opt-in.
    pending_admissions.changed(&stored("1", "", 9));
    assert!(user(&pending_admissions, &stored("1", "1", 10), &clock).is_some());
    // The watch has not shown this version yet, so there may have been an opt-out before it.
    assert!(user(&pending_admissions, &stored("1", "1", 12), &clock).is_none());
    pending_admissions.changed(&stored("1", "1", 12));
    assert!(user(&pending_admissions, &stored("1", "1", 12), &clock).is_some());
    pending_admissions.changed(&stored("1", "", 13));
    pending_admissions.changed(&stored("1", "1", 14));
    assert!(user(&pending_admissions, &stored("1", "1", 14), &clock).is_none(), "opted out in between");
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_watch_ends_what_is_held_unless_nothing_changed() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    let Stored { set_by, .. } = stored("", "1", 0);
    let digest = stored("", "1", 0).digest();
    let admission = Admission { user: "kim".to_owned(), time: String::new(), digest, set_by };
    pending_admissions.hold(&stored("1", "1", 10), &admission);
    pending_admissions.listed(&stored("1", "1", 10));
    assert!(user(&pending_admissions, &stored("1", "1", 10), &clock).is_some());
    pending_admissions.listed(&stored("1", "1", 11));
    assert!(user(&pending_admissions, &stored("1", "1", 11), &clock).is_none());
    pending_admissions.hold(&stored("1", "1", 11), &admission);
    pending_admissions.gone("a");
    assert!(user(&pending_admissions, &stored("1", "1", 11), &clock).is_none());
}

#[tokio::test(start_paused = true)]
async fn their_number_is_bounded() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    for number in 0..MOST_OF_ONE + 3 {
        assert!(pending_admissions.remember(
            note(Some("1"), &number.to_string(), "kim"),
            clock.wall(),
            clock.monotonic()
        ));
    }
    assert_eq!(pending_admissions.inner.lock().fresh["a"].len(), MOST_OF_ONE);
    for number in 0..MOST + 3 {
        let note = Note { namespace: format!("n{number}"), ..note(None, "1", "kim") };
        let is_room = pending_admissions.inner.lock().fresh.values().map(Vec::len).sum::<usize>() < MOST;
        assert_eq!(pending_admissions.remember(note, clock.wall(), clock.monotonic()), is_room);
    }
    let total: usize = pending_admissions.inner.lock().fresh.values().map(Vec::len).sum();
    assert_eq!(total, MOST);
}

#[tokio::test(start_paused = true)]
async fn a_note_fits_only_what_its_own_request_set() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    let later = "kubectl-annotate Update 2026-11-23T12:00:07Z".to_owned();
    assert!(pending_admissions.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic()));
    // The admitted request failed, and somebody set the same annotations without a review.
    let unreviewed = Stored { set_by: later.clone(), ..stored("1", "1", 5) };
    pending_admissions.changed(&unreviewed);
    assert_eq!(user(&pending_admissions, &unreviewed, &clock), None);

    pending_admissions.changed(&stored("1", "", 6));
    // The client set something else directly after this. The watch shows both versions, and the
    // live read shows only the second one.
    pending_admissions.changed(&stored("1", "1", 7));
    let moved_on = Stored { set_by: later.clone(), ..stored("1", "1", 8) };
    assert_eq!(user(&pending_admissions, &moved_on, &clock), None, "not shown yet");
    pending_admissions.changed(&moved_on);
    let admission = pending_admissions.admission_of(&moved_on, clock.monotonic()).unwrap();
    assert_eq!((admission.user.as_str(), admission.set_by), ("kim", later));
}

#[tokio::test(start_paused = true)]
async fn a_review_of_what_is_stored_already_is_nobodys_consent() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    pending_admissions.changed(&stored("1", "1", 5));
    assert!(pending_admissions.remember(note(Some("1"), "1", "forged"), clock.wall(), clock.monotonic()));
    assert_eq!(user(&pending_admissions, &stored("1", "1", 5), &clock), None);
    // A later write does not turn the review into consent either, whatever time the write gives the
    // annotations.
    pending_admissions.changed(&stored("1", "1", 6));
    let renewed = "kubectl-annotate Update 2026-11-23T12:00:09Z".to_owned();
    assert!(pending_admissions.remember(
        Note { set_by: renewed.clone(), ..note(Some("1"), "1", "forged") },
        clock.wall(),
        clock.monotonic(),
    ));
    let renewed = Stored { set_by: renewed, ..stored("1", "1", 7) };
    pending_admissions.changed(&renewed);
    pending_admissions.listed(&renewed);
    assert_eq!(user(&pending_admissions, &renewed, &clock), None);
    assert_eq!(user(&pending_admissions, &Stored { version: 8, ..renewed }, &clock), None);
    // If the annotations are removed and set again with a review, they are consent, even if the
    // watch is late.
    assert!(pending_admissions.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic()));
    assert_eq!(
        user(&pending_admissions, &stored("1", "1", 10), &clock),
        None,
        "the watch still has to show the removal"
    );
    pending_admissions.changed(&stored("1", "", 9));
    pending_admissions.changed(&stored("1", "1", 10));
    assert_eq!(
        user(&pending_admissions, &stored("1", "1", 10), &clock).as_deref(),
        Some("forged"),
        "the first name stands"
    );
}

#[tokio::test(start_paused = true)]
async fn a_later_review_changes_nobodys_name() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    let ask = |user: &str| {
        assert!(pending_admissions.remember(note(Some("1"), "1", user), clock.wall(), clock.monotonic()));
    };
    ask("kim");
    ask("forged");
    assert_eq!(user(&pending_admissions, &stored("1", "1", 5), &clock).as_deref(), Some("kim"));
    ask("forged");
    pending_admissions.changed(&stored("1", "1", 5));
    pending_admissions.changed(&stored("1", "1", 6));
    assert_eq!(user(&pending_admissions, &stored("1", "1", 6), &clock).as_deref(), Some("kim"));
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_while_nothing_has_to_be_reviewed_is_never_admitted() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    let back = serde_json::from_value(crate::fake::configuration()).unwrap();
    for (is_watched, uid) in [(true, "1"), (false, "2")] {
        // A caller who knows the secret path posts this review before the annotations are stored.
        assert!(pending_admissions.remember(note(Some(uid), "1", "forged"), clock.wall(), clock.monotonic()));
        pending_admissions.guard.configuration(None);
        if is_watched {
            pending_admissions.changed(&stored(uid, "1", 5));
        }
        assert_eq!(user(&pending_admissions, &stored(uid, "1", 5), &clock), None);
        pending_admissions.guard.configuration(Some(&back));
        tokio::time::sleep(crate::admission::configuration_watch::SETTLE).await;
        assert!(pending_admissions.remember(note(Some(uid), "1", "forged"), clock.wall(), clock.monotonic()));
        pending_admissions.changed(&stored(uid, "1", 6));
        assert_eq!(user(&pending_admissions, &stored(uid, "1", 6), &clock), None);
    }
    assert!(pending_admissions.remember(note(Some("2"), "2", "kim"), clock.wall(), clock.monotonic()));
    assert_eq!(user(&pending_admissions, &stored("2", "2", 7), &clock).as_deref(), Some("kim"));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_was_asked_about_makes_no_consent() {
    let (clock, pending_admissions) = (clock(), pending_admissions());
    let beside = |key: &str, version: u64| {
        let mut stored = stored("1", "1", version);
        stored.view.annotations.insert(key.to_owned(), "1".to_owned());
        stored
    };
    // No match condition selects the first key. The match condition does not select the second key
    // in a namespace with very many annotations.
    for (key, version) in [("purechos.dev/x", 5), ("purechaos.dev/foo", 15)] {
        pending_admissions.changed(&beside(key, version));
        assert!(pending_admissions.remember(note(Some("1"), "1", "forged"), clock.wall(), clock.monotonic()));
        pending_admissions.changed(&stored("1", "1", version + 1));
        assert_eq!(user(&pending_admissions, &stored("1", "1", version + 1), &clock), None, "{key}");
        // The result is the same if a live read shows the change first.
        pending_admissions.changed(&beside(key, version + 2));
        assert_eq!(user(&pending_admissions, &stored("1", "1", version + 3), &clock), None, "{key}");
    }
}

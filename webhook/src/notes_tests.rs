use super::*;
use policy::eligibility::NamespaceView;
use runtime::clock::{Clock, TokioClock};

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

fn user(notes: &Notes, live: &Stored, clock: &TokioClock) -> Option<String> {
    notes.admission_of(live, clock.monotonic()).map(|admission| admission.user)
}

#[tokio::test(start_paused = true)]
async fn a_note_lasts_a_minute_and_fits_one_digest_and_uid() {
    let (clock, notes) = (clock(), Notes::default());
    notes.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic());
    tokio::time::sleep(LIFETIME - Duration::from_millis(1)).await;
    assert_eq!(user(&notes, &stored("1", "2", 5), &clock), None, "another digest");
    assert_eq!(user(&notes, &stored("2", "1", 5), &clock), None, "another namespace of that name");
    assert!(notes.is_waiting(clock.monotonic()));
    assert_eq!(user(&notes, &stored("1", "1", 5), &clock).as_deref(), Some("kim"));
    assert!(!notes.is_waiting(clock.monotonic()));

    notes.remember(note(Some("1"), "3", "kim"), clock.wall(), clock.monotonic());
    tokio::time::sleep(LIFETIME).await;
    assert_eq!(user(&notes, &stored("1", "3", 6), &clock), None, "too old");
}

#[tokio::test(start_paused = true)]
async fn concurrent_admissions_do_not_displace_each_other() {
    let (clock, notes) = (clock(), Notes::default());
    notes.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic());
    notes.remember(note(Some("1"), "2", "sam"), clock.wall(), clock.monotonic());
    assert_eq!(user(&notes, &stored("1", "1", 5), &clock).as_deref(), Some("kim"));
    assert_eq!(user(&notes, &stored("1", "2", 6), &clock).as_deref(), Some("sam"));
}

#[tokio::test(start_paused = true)]
async fn without_a_uid_only_a_namespace_that_is_not_older_fits() {
    let (clock, notes) = (clock(), Notes::default());
    notes.remember(note(None, "1", "kim"), clock.wall(), clock.monotonic());
    let older = Stored { created: Some("2026-11-23T11:59:57Z".parse().unwrap()), ..stored("1", "1", 5) };
    assert_eq!(user(&notes, &older, &clock), None);
    assert_eq!(user(&notes, &stored("1", "1", 5), &clock).as_deref(), Some("kim"));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_lasts_until_the_annotations_change() {
    let (clock, notes) = (clock(), Notes::default());
    notes.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic());
    assert!(user(&notes, &stored("1", "1", 10), &clock).is_some());
    tokio::time::sleep(LIFETIME * 10).await;
    // A late event of the time before the opt-in.
    notes.changed(&stored("1", "", 9));
    assert!(user(&notes, &stored("1", "1", 10), &clock).is_some());
    // Read at a version that the watch hasn't shown yet: there may have been an opt-out in between.
    assert!(user(&notes, &stored("1", "1", 12), &clock).is_none());
    notes.changed(&stored("1", "1", 12));
    assert!(user(&notes, &stored("1", "1", 12), &clock).is_some());
    notes.changed(&stored("1", "", 13));
    notes.changed(&stored("1", "1", 14));
    assert!(user(&notes, &stored("1", "1", 14), &clock).is_none(), "opted out in between");
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_watch_ends_what_is_held_unless_nothing_changed() {
    let (clock, notes) = (clock(), Notes::default());
    let Stored { set_by, .. } = stored("", "1", 0);
    let digest = stored("", "1", 0).digest();
    let admission = Admission { user: "kim".to_owned(), time: String::new(), digest, set_by };
    notes.hold(&stored("1", "1", 10), &admission);
    notes.listed(&stored("1", "1", 10));
    assert!(user(&notes, &stored("1", "1", 10), &clock).is_some());
    notes.listed(&stored("1", "1", 11));
    assert!(user(&notes, &stored("1", "1", 11), &clock).is_none());
    notes.hold(&stored("1", "1", 11), &admission);
    notes.gone("a");
    assert!(user(&notes, &stored("1", "1", 11), &clock).is_none());
}

#[tokio::test(start_paused = true)]
async fn their_number_is_bounded() {
    let (clock, notes) = (clock(), Notes::default());
    for number in 0..MOST_OF_ONE + 3 {
        notes.remember(note(Some("1"), &number.to_string(), "kim"), clock.wall(), clock.monotonic());
    }
    assert_eq!(notes.lock().fresh["a"].len(), MOST_OF_ONE);
    for number in 0..MOST + 3 {
        let note = Note { namespace: format!("n{number}"), ..note(None, "1", "kim") };
        notes.remember(note, clock.wall(), clock.monotonic());
    }
    let total: usize = notes.lock().fresh.values().map(Vec::len).sum();
    assert_eq!(total, MOST);
}

#[tokio::test(start_paused = true)]
async fn a_note_fits_only_what_its_own_request_set() {
    let (clock, notes) = (clock(), Notes::default());
    let later = "kubectl-annotate Update 2026-11-23T12:00:07Z".to_owned();
    notes.remember(note(Some("1"), "1", "kim"), clock.wall(), clock.monotonic());
    // The admitted request failed, and somebody set the same unreviewed.
    let unreviewed = Stored { set_by: later.clone(), ..stored("1", "1", 5) };
    notes.changed(&unreviewed);
    assert_eq!(user(&notes, &unreviewed, &clock), None);

    // The client set something else right after it: the watch shows both versions, the live read the second.
    notes.changed(&stored("1", "1", 6));
    let moved_on = Stored { set_by: later.clone(), ..stored("1", "1", 7) };
    assert_eq!(user(&notes, &moved_on, &clock), None, "not shown yet");
    notes.changed(&moved_on);
    let admission = notes.admission_of(&moved_on, clock.monotonic()).unwrap();
    assert_eq!((admission.user.as_str(), admission.set_by), ("kim", later));
}

use super::*;
use policy::eligibility::NamespaceView;
use policy::record::share;
use proptest::prelude::*;

fn namespace(name: &str, pairs: &[(&str, &str)]) -> Stored {
    let view = NamespaceView {
        name: name.to_owned(),
        uid: "n-1".to_owned(),
        annotations: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        terminating: false,
    };
    Stored { view, set_by: "kubectl-annotate Update 2026-11-23T12:00:00Z".to_owned(), ..Stored::default() }
}

fn admission(of: &Stored) -> Admission {
    Admission {
        user: "kim".to_owned(),
        time: "2026-11-23T12:00:00Z".to_owned(),
        digest: of.digest(),
        set_by: of.set_by.clone(),
    }
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn of(namespace: &Stored, known: Option<&OptInSpec>, remembered: Option<Admission>) -> Desired {
    desired(namespace, known, remembered, &PlatformPolicy::built_in(), now())
}

fn spec(desired: Desired) -> OptInSpec {
    match desired {
        Desired::Record(spec) => *spec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_gets_no_record() {
    assert_eq!(of(&namespace("a", &[]), None, None), Desired::Nothing("opted out"));
    assert_eq!(
        of(&namespace("a", &[("purechaos.dev/limit", "1")]), None, None),
        Desired::Nothing("opted out")
    );
    assert_eq!(of(&namespace("kube-system", &[("chaos", "yes")]), None, None), Desired::Nothing("protected"));
    for pairs in [&[][..], &[("chaos", "yes")], &[("chaos", "Yes")]] {
        let mut terminating = namespace("a", pairs);
        terminating.view.terminating = true;
        assert_eq!(of(&terminating, None, None), Desired::LeftAlone);
    }
}

#[test]
fn an_admission_makes_the_verdict() {
    let opted_in = namespace("a", &[("chaos", "yes"), ("purechaos.dev/limit", "2")]);
    let unseen = spec(of(&opted_in, None, None));
    assert_eq!(unseen.verdict, Verdict::NotAdmitted);
    assert_eq!(
        unseen.reason.as_deref(),
        Some(
            "the webhook did not review this opt-in; remove the annotation and set it again: \
             kubectl annotate namespace a chaos- ; kubectl annotate namespace a chaos=yes"
        )
    );
    let admitted = spec(of(&opted_in, Some(&unseen), Some(admission(&opted_in))));
    assert_eq!((admitted.verdict, &admitted.reason), (Verdict::Admitted, &None));
    assert_eq!(share(&admitted.settings.as_ref().unwrap().limit), "2");
    // A later review of the same annotations, set by the same request, does not change the user's
    // name.
    let sam = Admission { user: "sam".to_owned(), ..admission(&opted_in) };
    assert_eq!(spec(of(&opted_in, Some(&admitted), Some(sam))), admitted);
    // The other replica remembers nothing.
    assert_eq!(spec(of(&opted_in, Some(&admitted), None)), admitted);
}

#[test]
fn an_admission_of_something_else_is_dropped() {
    let before = namespace("a", &[("chaos", "yes"), ("purechaos.dev/dry-run", "true")]);
    let admitted = spec(of(&before, None, Some(admission(&before))));
    let widened = namespace("a", &[("chaos", "yes")]);
    assert_eq!(spec(of(&widened, Some(&admitted), None)).verdict, Verdict::NotAdmitted);
    assert_eq!(spec(of(&widened, Some(&admitted), None)).admission, None);
    let later = "kubectl-annotate Update 2026-11-23T12:10:00Z".to_owned();
    let set_again = Stored { set_by: later, ..before.clone() };
    assert_eq!(
        spec(of(&set_again, Some(&admitted), None)).verdict,
        Verdict::NotAdmitted,
        "by another request"
    );
    let mut again = before;
    again.view.uid = "n-2".to_owned();
    assert_eq!(spec(of(&again, Some(&admitted), None)).verdict, Verdict::NotAdmitted);
}

#[test]
fn what_is_not_understood_says_why_and_keeps_its_admission() {
    let wrong = namespace("a", &[("chaos", "Yes")]);
    let record = spec(of(&wrong, None, None));
    assert_eq!(record.verdict, Verdict::NotUnderstood);
    assert!(record.reason.unwrap().contains("write `yes`"));
    assert_eq!(record.settings, None);

    // A ceiling was lowered after the admission, and is raised again.
    let opted_in = namespace("a", &[("chaos", "yes"), ("purechaos.dev/limit", "2")]);
    let admitted = spec(of(&opted_in, None, Some(admission(&opted_in))));
    let lower = PlatformPolicy::parse("ceilings:\n  limit: 1\n").unwrap();
    let past = spec(desired(&opted_in, Some(&admitted), None, &lower, now()));
    assert_eq!(past.verdict, Verdict::NotUnderstood);
    assert!(past.reason.as_ref().unwrap().contains("ceilings.limit"));
    assert_eq!(spec(of(&opted_in, Some(&past), None)), admitted);
}

proptest! {
    /// Two replicas write in any order, and only one of them remembers the admission. Each replica
    /// writes what follows from an earlier read. A write from an outdated read is a conflict and
    /// changes nothing. Once the replica that remembers has written, the record is admitted, and
    /// stays so.
    #[test]
    fn two_replicas_agree(turns in prop::collection::vec((any::<bool>(), any::<bool>()), 1..30)) {
        let opted_in = namespace("a", &[("chaos", "yes")]);
        let (mut record, mut version): (Option<OptInSpec>, u32) = (None, 0);
        let mut read: [Option<(Option<OptInSpec>, u32)>; 2] = [None, None];
        let mut remembering_wrote = false;
        for (remembering, is_read) in turns {
            let replica = usize::from(remembering);
            if is_read {
                read[replica] = Some((record.clone(), version));
            } else if let Some((known, at)) = read[replica].take() {
                let wanted = spec(of(&opted_in, known.as_ref(), remembering.then(|| admission(&opted_in))));
                if at == version {
                    if known.as_ref() != Some(&wanted) {
                        record = Some(wanted);
                        version += 1;
                    }
                    remembering_wrote |= remembering;
                }
            }
            if remembering_wrote {
                prop_assert_eq!(record.as_ref().map(|spec| spec.verdict), Some(Verdict::Admitted));
            }
        }
    }
}

#[test]
fn an_opt_in_that_expired_has_no_record() {
    let until = |instant| namespace("a", &[("chaos", "yes"), ("purechaos.dev/expires", instant)]);
    let over = until("2026-11-23T12:00:00Z");
    assert_eq!(of(&over, None, Some(admission(&over))), Desired::Nothing("expired"));
    let not_yet = until("2026-11-23T12:00:01Z");
    assert_eq!(spec(of(&not_yet, None, Some(admission(&not_yet)))).verdict, Verdict::Admitted);
}

#[test]
fn the_platform_may_adopt_what_nobody_saw() {
    let opted_in = namespace("a", &[("chaos", "yes")]);
    let adopting = PlatformPolicy { adopt_existing: true, ..PlatformPolicy::built_in() };
    let ask = |known: Option<&OptInSpec>, remembered, policy: &PlatformPolicy| {
        spec(desired(&opted_in, known, remembered, policy, now()))
    };
    let adopted = ask(None, None, &adopting);
    assert_eq!(adopted.verdict, Verdict::Admitted);
    assert_eq!(adopted.admission.as_ref().unwrap().user, ADOPTED);
    assert_eq!(ask(Some(&adopted), None, &adopting), adopted, "it settles");
    // A user whose admission is known replaces the unknown one, and stays.
    let known = ask(Some(&adopted), Some(admission(&opted_in)), &adopting);
    assert_eq!(known.admission.as_ref().unwrap().user, "kim");
    assert_eq!(ask(Some(&known), None, &PlatformPolicy::built_in()), known);
    // Without `adoptExisting`, an opt-in that counted only because of it ends.
    assert_eq!(ask(Some(&adopted), None, &PlatformPolicy::built_in()).verdict, Verdict::NotAdmitted);
    let wrong = namespace("a", &[("chaos", "Yes")]);
    assert_eq!(spec(desired(&wrong, None, None, &adopting, now())).verdict, Verdict::NotUnderstood);
}

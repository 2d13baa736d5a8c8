//! Ways around the review of an opt-in. Every way to write an annotation has the same refusals and
//! the same admissions.

use serde_json::{Map, Value};
use tests::cluster::{Namespace, eventually, kubectl, object};
use tests::disruption::{WithoutWebhook, until_opt_ins_are_reviewed};
use tests::ways::{CHANGES, CREATIONS, Wanted, chaos_keys};

/// A schedule so rare that no round comes while the tests run.
const SCHEDULE: (&str, &str) = ("purechaos.dev/schedule", "every 12h");
const DRY_RUN: (&str, &str) = ("purechaos.dev/dry-run", "true");
const YES: (&str, &str) = ("chaos", "yes");

/// What is refused by every way, and the text of the refusal.
const REFUSED: [(Wanted, &str); 6] = [
    (
        &[("chaos", "Yes"), SCHEDULE],
        "metadata.annotations[chaos]: Invalid value: \"Yes\": write `yes` to opt in",
    ),
    (&[YES, ("purechaos.dev/Dry-Run", "true")], "did you mean `purechaos.dev/dry-run`?"),
    (&[YES, ("purechaos.dev/schedule", "whenever")], "metadata.annotations[purechaos.dev/schedule]"),
    (&[("chaos", "true")], "metadata.annotations[chaos]: Invalid value: \"true\": write `yes` to opt in"),
    (&[YES, ("purechaos.dev/dry_run", "true")], "did you mean `purechaos.dev/dry-run`?"),
    (&[YES, ("purechaos.dev/limit", "9")], "the platform's ceilings.limit is `5`"),
];

/// The cases for a way: all of them for the most usual ways, and enough of them for each other way.
fn refused_by(way: &str) -> &'static [(Wanted<'static>, &'static str)] {
    match way {
        "annotate" | "create" => &REFUSED,
        // This way deletes first, which takes seconds each time.
        "replace-force" => &REFUSED[5..],
        _ => &REFUSED[3..],
    }
}

fn verdict(namespace: &Namespace) -> Value {
    namespace.record()["spec"]["verdict"].clone()
}

#[test]
fn every_way_to_change_a_namespace_is_reviewed() {
    for (way, change) in CHANGES {
        println!("{way}");
        let namespace = Namespace::new(way);
        let name = &namespace.name;
        for (wanted, words) in refused_by(way) {
            change(name, wanted).fails_with(words);
        }
        assert_eq!((chaos_keys(name), namespace.record()), (Map::new(), Value::Null), "{way}");
        change(name, &[YES, SCHEDULE, DRY_RUN]).succeeds();
        eventually("an admitted record", || (verdict(&namespace) == "Admitted").then_some(()));
        assert_eq!(namespace.record()["spec"]["settings"]["dryRun"], true, "{way}");
        // When the webhook refuses something worse, the admitted annotations stay unchanged.
        let stored = chaos_keys(name);
        let (wanted, words) = REFUSED[5];
        change(name, wanted).fails_with(words);
        assert_eq!(chaos_keys(name), stored, "{way}");
        // Without the dry run this is another opt-in, and the webhook admits it.
        change(name, &[YES, SCHEDULE]).succeeds();
        eventually("a record of what is left", || {
            (namespace.record()["spec"]["settings"]["dryRun"] == false).then_some(())
        });
        assert_eq!(verdict(&namespace), "Admitted", "{way}");
        change(name, &[]).succeeds();
        eventually("the end of the record", || (namespace.record() == Value::Null).then_some(()));
    }
}

#[test]
fn every_way_to_make_a_namespace_is_reviewed() {
    for (way, create) in CREATIONS {
        println!("{way}");
        let name = format!("{way}-{}", std::process::id());
        for (wanted, words) in refused_by(way) {
            create(&name, wanted).fails_with(words);
        }
        assert_eq!(object(&["namespace", &name]), Value::Null, "{way}");
        create(&format!("kube-{name}"), &[YES]).fails_with("is protected and can't opt in");
        let made = create(&name, &[YES, SCHEDULE]);
        let namespace = Namespace { name };
        made.succeeds();
        eventually("an admitted record", || (verdict(&namespace) == "Admitted").then_some(()));
    }
}

#[test]
fn a_protected_namespace_opts_in_no_way() {
    let namespace = Namespace::new("kube-bypass");
    let name = &namespace.name;
    for (way, change) in CHANGES {
        let sentence = format!("namespace {name} is protected and can't opt in; leave the annotation out");
        change(name, &[YES, SCHEDULE]).fails_with(&sentence);
        assert_eq!(chaos_keys(name), Map::new(), "{way}");
    }
    for name in ["kube-system", "kube-public", "kube-node-lease", "default", "pure-chaos"] {
        for (_, change) in CHANGES.iter().filter(|(way, _)| ["annotate", "put-finalize"].contains(way)) {
            change(name, &[YES]).fails_with("is protected and can't opt in");
        }
        assert_eq!(chaos_keys(name), Map::new());
    }
    assert_eq!(namespace.record(), Value::Null);
}

#[test]
fn a_key_in_another_case_is_no_opt_in() {
    let namespace = Namespace::new("mixed-case");
    let later = Namespace::new("mixed-later");
    for (_, change) in CHANGES {
        for key in ["Chaos", "CHAOS"] {
            change(&namespace.name, &[(key, "yes")]).succeeds();
        }
    }
    assert!(!chaos_keys(&namespace.name).contains_key("chaos"));
    assert_eq!(chaos_keys(&namespace.name)["CHAOS"], "yes");
    // If the webhook made a record of this, it would make it before the record of a later opt-in.
    later.opt_in(&["purechaos.dev/schedule=every 12h"]);
    assert_eq!(namespace.record(), Value::Null);
    assert!(!namespace.has_binding());
}

#[test]
fn with_the_webhook_dead_nothing_widens_and_everybody_can_leave() {
    let namespaces = CHANGES.map(|(way, change)| {
        let namespace = Namespace::new(&format!("dead-{way}"));
        change(&namespace.name, &[YES, SCHEDULE, DRY_RUN]).succeeds();
        namespace
    });
    for namespace in &namespaces {
        eventually("an admitted record", || (verdict(namespace) == "Admitted").then_some(()));
    }
    {
        let _webhook = WithoutWebhook::new();
        eventually("the API server to notice", || {
            let asked = kubectl(&["annotate", "namespace", "kube-public", "chaos=yes", "--dry-run=server"]);
            asked.stderr.contains("failed calling webhook").then_some(())
        });
        for ((way, change), namespace) in CHANGES.into_iter().zip(&namespaces) {
            println!("{way}");
            let name = &namespace.name;
            let stored = chaos_keys(name);
            let dead = "failed calling webhook \"opt-in.purechaos.dev\"";
            for wanted in [&[YES, SCHEDULE][..], &[YES, SCHEDULE, ("purechaos.dev/dry-run", "false")]] {
                change(name, wanted).fails_with(dead);
            }
            assert_eq!(chaos_keys(name), stored, "{way}");
            change(name, &[SCHEDULE, DRY_RUN]).succeeds();
            assert!(!chaos_keys(name).contains_key("chaos"), "{way}");
            change(name, &[]).succeeds();
            assert_eq!(chaos_keys(name), Map::new(), "{way}");
        }
    }
    until_opt_ins_are_reviewed();
    for namespace in &namespaces {
        eventually("the records to go once the webhook is back", || {
            (namespace.record() == Value::Null && !namespace.has_binding()).then_some(())
        });
    }
}

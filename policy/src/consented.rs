//! How a namespace's owner agreed to kills: by eviction or by deletion, with which grace period, as
//! a dry run or not, and of which Pods.
//!
//! The webhook checks each kill by a ServiceAccount of Pure Chaos with these rules, so it does not
//! rely on the agent's own code.

use std::fmt;

use crate::exclusion::{Exclusion, Marks};
use crate::narrowing::Narrowing;
use crate::settings::{Key, Mode, Settings};
use crate::well_known::PREFIX;

/// A kill, as a request to the API server.
#[derive(Debug, Clone, Copy)]
pub struct Kill<'a> {
    /// Whether the request is a dry run, which changes nothing.
    pub dry_run: bool,
    /// The grace period in seconds. `None` means the Pod's own. For a DELETE, this is the value
    /// that the API server computed from the request.
    pub grace: Option<i64>,
    /// The kind of request. A DELETE shows the Pod, and an eviction does not.
    pub way: Way<'a>,
}

/// The way in which a Pod is to be killed.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// Through the eviction API.
    Evict,
    /// By a DELETE request for this Pod.
    Delete(Victim<'a>),
}

/// What a DELETE request shows of its Pod.
#[derive(Debug, Clone, Copy)]
pub struct Victim<'a> {
    /// The annotations, the labels and the priority class by which the Pod may ask to be left
    /// alone.
    pub marks: Marks<'a>,
    /// The kind of the Pod's controller.
    pub controller: Option<&'a str>,
    /// The Pod's own grace period in seconds.
    pub grace: Option<i64>,
    /// Whether the Pod runs on no node, because it is not scheduled yet or has ended. The API
    /// server deletes such a Pod with grace period 0, whatever the request says.
    pub runs_nowhere: bool,
}

/// What the owner did not agree to in a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// The kill is real, and the owner agreed to dry runs only.
    NotDry,
    /// The kill is a DELETE, and the owner agreed to evictions only.
    Delete,
    /// The kill has the first grace period, and the owner agreed to the second one. Both are in
    /// seconds, and `None` means the Pod's own.
    Grace(Option<i64>, Option<i64>),
    /// The Pod belongs to a StatefulSet or to a custom workload, and mode `force` never kills such a
    /// Pod.
    ForcedMember,
    /// The Pod must be left alone, for this reason.
    LeftAlone(Exclusion),
    /// The Pod is not one of the targets.
    NotTargeted,
    /// The Pod's template asks for something that is not narrower than the namespace's settings.
    NotNarrower(String),
    /// The kill is a DELETE, and the Pod's template agrees to evictions only.
    Narrowed,
}

impl fmt::Display for Excess {
    /// Writes what the owner agreed to. The text follows the name of the namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grace = |grace: &Option<i64>| match grace {
            None => "the Pod's own grace period".to_owned(),
            Some(grace) => format!("a grace period of {grace} s"),
        };
        match self {
            Self::NotDry => {
                write!(f, "consents to dry runs only; its owner can set {PREFIX}{}=false", Key::DryRun.word())
            }
            Self::Delete => write!(
                f,
                "consents to evictions only, and this is a DELETE; its owner can set {PREFIX}{}={}",
                Key::Mode.word(),
                Mode::Delete
            ),
            Self::Grace(asked, consented) => write!(
                f,
                "consents to kills with {}, and this kill has {}; \
                 its owner can set {PREFIX}{}, or {PREFIX}{}={} for none",
                grace(consented),
                grace(asked),
                Key::GracePeriod.word(),
                Key::Mode.word(),
                Mode::Force
            ),
            Self::ForcedMember => {
                write!(
                    f,
                    "consents to mode {}, which never kills the Pods of a StatefulSet or of a custom workload",
                    Mode::Force
                )
            }
            Self::LeftAlone(exclusion) => {
                write!(f, "does not consent to a kill of this Pod: {}", exclusion.sentence("the Pod"))
            }
            Self::NotNarrower(sentence) => {
                write!(f, "does not consent to a kill of this Pod: {sentence}")
            }
            Self::Narrowed => write!(
                f,
                "does not consent to a DELETE of this Pod, which has {PREFIX}{}={}",
                Key::Mode.word(),
                Mode::Evict
            ),
            Self::NotTargeted => write!(
                f,
                "does not consent to a kill of this Pod: the Pod does not match {PREFIX}{}",
                Key::Targets.word()
            ),
        }
    }
}

/// Checks that the owner agreed to a kill of this kind. [`crate::kill_gate`] checks whether a kill
/// may happen now.
///
/// # Errors
/// Returns the first [`Excess`].
pub fn check(settings: &Settings, kill: &Kill) -> Result<(), Excess> {
    if settings.dry_run && !kill.dry_run {
        return Err(Excess::NotDry);
    }
    match kill.way {
        Way::Evict => check_eviction(settings, kill),
        Way::Delete(_) if settings.mode == Mode::Evict => Err(Excess::Delete),
        Way::Delete(victim) => {
            let narrowing = Narrowing::of(victim.marks.annotations, settings).map_err(Excess::NotNarrower)?;
            match narrowing.map(|narrowing| narrowing.apply(settings)) {
                Some(narrowed) if narrowed.mode == Mode::Evict => Err(Excess::Narrowed),
                Some(narrowed) => check_delete(&narrowed, kill, &victim),
                None => check_delete(settings, kill, &victim),
            }
        }
    }
}

/// The grace period in seconds to which the owner agreed. `None` means the Pod's own.
fn consented(settings: &Settings) -> Option<i64> {
    match settings.mode {
        Mode::Force => Some(0),
        Mode::Evict | Mode::Delete => {
            settings.grace_period.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX))
        }
    }
}

/// An eviction is gentler than a DELETE, so an owner who agreed to deletions agreed to evictions
/// too.
fn check_eviction(settings: &Settings, kill: &Kill) -> Result<(), Excess> {
    let consented = consented(settings);
    if kill.grace == consented { Ok(()) } else { Err(Excess::Grace(kill.grace, consented)) }
}

fn check_delete(settings: &Settings, kill: &Kill, victim: &Victim) -> Result<(), Excess> {
    let consented = consented(settings);
    // The API server changes a negative grace period of a Pod to 1 second.
    let own = victim.grace.map_or(0, |grace| if grace < 0 { 1 } else { grace });
    let expected = consented.unwrap_or(own);
    if kill.grace.unwrap_or(own) != expected && !(victim.runs_nowhere && kill.grace == Some(0)) {
        return Err(Excess::Grace(kill.grace, consented));
    }
    if victim.controller.is_some_and(|controller| settings.mode.spares(controller)) {
        return Err(Excess::ForcedMember);
    }
    let exclusion = Exclusion::of(victim.marks);
    if let Some(held) = exclusion.filter(|exclusion| exclusion.holds(settings.targets.as_ref())) {
        return Err(Excess::LeftAlone(held));
    }
    match &settings.targets {
        Some(targets) if !targets.cover(victim.marks.labels) => Err(Excess::NotTargeted),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn map(pairs: Pairs) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn ask(settings: Pairs, kill: &Kill) -> Result<(), Excess> {
        let annotations: BTreeMap<String, String> =
            settings.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect();
        check(&Settings::parse(&annotations, &Settings::built_in()).unwrap(), kill)
    }

    /// A DELETE of a running Pod whose own grace period is 30 s, with these annotations and labels.
    fn delete(settings: Pairs, grace: i64, annotations: Pairs, labels: Pairs) -> Result<(), Excess> {
        let (annotations, labels) = (map(annotations), map(labels));
        let marks = Marks { annotations: &annotations, labels: &labels, priority_class: None, is_pod: true };
        let victim = Victim { marks, controller: Some("ReplicaSet"), grace: Some(30), runs_nowhere: false };
        ask(settings, &Kill { dry_run: false, grace: Some(grace), way: Way::Delete(victim) })
    }

    #[test]
    fn a_dry_run_stays_one_whatever_the_mode() {
        let evict = |dry_run| Kill { dry_run, grace: None, way: Way::Evict };
        for settings in [&[("dry-run", "true")][..], &[("dry-run", "true"), ("mode", "delete")]] {
            assert_eq!(ask(settings, &evict(false)), Err(Excess::NotDry));
            assert_eq!(ask(settings, &evict(true)), Ok(()));
            assert_eq!(delete(settings, 30, &[], &[]), Err(Excess::NotDry));
        }
        assert_eq!(ask(&[], &evict(true)), Ok(()), "less than was consented to");
        let by_default = Settings { dry_run: true, ..Settings::built_in() };
        assert_eq!(check(&by_default, &evict(false)), Err(Excess::NotDry), "the platform's default");
    }

    #[test]
    fn evictions_have_the_grace_that_was_set() {
        let evict = |settings: Pairs, grace| ask(settings, &Kill { dry_run: false, grace, way: Way::Evict });
        let own: Pairs = &[];
        let ten: Pairs = &[("grace-period", "10s")];
        let force: Pairs = &[("mode", "force")];
        for (settings, grace, consented) in [
            (own, None, true),
            (own, Some(0), false),
            (own, Some(30), false),
            (own, Some(-1), false),
            (ten, Some(10), true),
            (ten, Some(0), false),
            (ten, None, false),
            (&[("mode", "delete")], None, true),
            (&[("mode", "delete")], Some(0), false),
            (force, Some(0), true),
            (force, None, false),
            (force, Some(30), false),
        ] {
            assert_eq!(evict(settings, grace).is_ok(), consented, "{settings:?} {grace:?}");
        }
    }

    #[test]
    fn deletions_need_their_mode_and_its_grace() {
        let mode = |word| [("mode", word)];
        assert_eq!(delete(&[], 30, &[], &[]), Err(Excess::Delete));
        assert_eq!(delete(&mode("evict"), 0, &[], &[]), Err(Excess::Delete));
        assert_eq!(delete(&mode("delete"), 30, &[], &[]), Ok(()));
        assert_eq!(delete(&mode("delete"), 0, &[], &[]), Err(Excess::Grace(Some(0), None)));
        assert_eq!(delete(&mode("delete"), 1, &[], &[]), Err(Excess::Grace(Some(1), None)));
        assert_eq!(delete(&mode("force"), 0, &[], &[]), Ok(()));
        assert_eq!(delete(&mode("force"), 30, &[], &[]), Err(Excess::Grace(Some(30), Some(0))));
        let ten = [("mode", "delete"), ("grace-period", "10s")];
        assert_eq!(delete(&ten, 10, &[], &[]), Ok(()));
        assert_eq!(delete(&ten, 30, &[], &[]), Err(Excess::Grace(Some(30), Some(10))));
    }

    #[test]
    fn a_pod_template_can_agree_to_less_and_not_to_more() {
        let (delete_mode, force): (Pairs, Pairs) = (&[("mode", "delete")], &[("mode", "force")]);
        let gentler: Pairs = &[("purechaos.dev/mode", "evict")];
        assert_eq!(delete(delete_mode, 30, gentler, &[]), Err(Excess::Narrowed));
        let with_grace: Pairs = &[("purechaos.dev/mode", "delete")];
        assert_eq!(delete(force, 30, with_grace, &[]), Ok(()));
        assert_eq!(delete(force, 0, with_grace, &[]), Err(Excess::Grace(Some(0), None)));
        let rougher = delete(delete_mode, 0, &[("purechaos.dev/mode", "force")], &[]);
        assert!(matches!(rougher, Err(Excess::NotNarrower(_))), "{rougher:?}");
        let odd = delete(delete_mode, 30, &[("purechaos.dev/per-workload", "all")], &[]);
        assert!(matches!(odd, Err(Excess::NotNarrower(_))), "{odd:?}");
        let both: Pairs = &[("purechaos.dev/mode", "delete"), ("purechaos.dev/exclude", "true")];
        assert!(matches!(delete(delete_mode, 30, both, &[]), Err(Excess::LeftAlone(_))));
    }

    #[test]
    fn the_api_server_gives_no_grace_to_what_runs_nowhere() {
        let none = BTreeMap::new();
        let marks = Marks { annotations: &none, labels: &none, priority_class: None, is_pod: true };
        let with = |grace, own, runs_nowhere| {
            let victim = Victim { marks, controller: None, grace: own, runs_nowhere };
            ask(&[("mode", "delete")], &Kill { dry_run: false, grace, way: Way::Delete(victim) })
        };
        assert_eq!(with(Some(0), Some(30), true), Ok(()));
        assert!(with(Some(0), Some(30), false).is_err());
        assert_eq!(with(Some(0), Some(0), false), Ok(()), "its own");
        assert_eq!(with(Some(1), Some(-7), false), Ok(()), "what the API server makes of its own");
        assert_eq!(with(None, Some(30), false), Ok(()));
    }

    #[test]
    fn deletions_spare_whom_the_agent_spares() {
        let by_mode: Pairs = &[("mode", "delete")];
        for annotation in [("purechaos.dev/exclude", "true"), ("karpenter.sh/do-not-disrupt", "4h")] {
            let left_alone = delete(by_mode, 30, &[annotation], &[]).unwrap_err();
            assert!(matches!(left_alone, Excess::LeftAlone(_)), "{left_alone:?}");
            assert!(left_alone.to_string().contains(annotation.0), "{left_alone}");
            assert!(delete(by_mode, 30, &[], &[annotation]).is_err(), "as a label");
        }
        let web: Pairs = &[("mode", "delete"), ("targets", "app=web")];
        assert_eq!(delete(web, 30, &[], &[("app", "web")]), Ok(()));
        assert_eq!(delete(web, 30, &[], &[("app", "db")]), Err(Excess::NotTargeted));
        let none = BTreeMap::new();
        let marks = Marks { annotations: &none, labels: &none, priority_class: None, is_pod: true };
        let forced = |controller| {
            let victim = Victim { marks, controller, grace: Some(30), runs_nowhere: false };
            ask(&[("mode", "force")], &Kill { dry_run: false, grace: Some(0), way: Way::Delete(victim) })
        };
        for member in ["StatefulSet", "CloneSet"] {
            assert_eq!(forced(Some(member)), Err(Excess::ForcedMember), "{member}");
        }
        for controller in [Some("ReplicaSet"), Some("DaemonSet"), None] {
            assert_eq!(forced(controller), Ok(()), "{controller:?}");
        }
    }

    #[test]
    fn the_sentences_say_what_to_set() {
        let sentence = |excess: Excess| format!("namespace a {excess}");
        assert_eq!(
            sentence(Excess::Delete),
            "namespace a consents to evictions only, and this is a DELETE; its owner can set purechaos.dev/mode=delete"
        );
        assert_eq!(
            sentence(Excess::Grace(Some(0), None)),
            "namespace a consents to kills with the Pod's own grace period, \
             and this kill has a grace period of 0 s; \
             its owner can set purechaos.dev/grace-period, or purechaos.dev/mode=force for none"
        );
    }
}

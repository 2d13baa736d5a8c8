//! Decides what the record shows between rounds: whether a round could kill now, as far as the
//! record, the halt and the clock tell. This is only a hint for people, because each round and each
//! kill reads the Namespaces again. The functions here are pure.

use jiff::Timestamp;
use policy::kill_gate::{Locked, is_time};
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, RecordedSettings, Verdict};

use crate::guard::namespace::{Forbidden, by_record, refused};
use crate::refusal::Refusal;
use crate::telemetry::activity::Halt;

/// What would refuse every round in `namespace` at `now`. `None` if only a round can tell.
#[must_use]
pub fn foreseen(
    namespace: &str,
    record: &OptInSpec,
    halt: &Halt,
    policy: &PlatformPolicy,
    now: Timestamp,
) -> Option<Forbidden> {
    if let Halt::Yes(text) = halt {
        return Some(refused(namespace, &Locked::HaltedEverywhere(text.clone())));
    }
    if let Some(text) = &record.halt {
        return Some(refused(namespace, &Locked::Halted(text.clone())));
    }
    if record.verdict != Verdict::Admitted {
        return Some(by_record(record, namespace));
    }
    let settings = record.settings.as_ref().and_then(RecordedSettings::understood)?;
    if let Some(end) = settings.expires.filter(|end| *end <= now) {
        return Some(refused(namespace, &Locked::Expired(end)));
    }
    if let Err(locked) = is_time(&settings, policy, now) {
        return Some(refused(namespace, &locked));
    }
    // The webhook could not give the agent its rights.
    let sentence = record.reason.clone()?;
    Some(Forbidden { refusal: Refusal::NoRights, sentence })
}

/// The refusal that a state shows, if [`foreseen`] can return it. An earlier process may have left
/// this state.
#[must_use]
pub fn foreseeable(state: &str) -> Option<Refusal> {
    let all = [
        Refusal::Halted,
        Refusal::NotAdmitted,
        Refusal::Expired,
        Refusal::OutsideActiveHours,
        Refusal::Excepted,
        Refusal::UnknownSetting,
    ];
    all.into_iter().find(|refusal| refusal.label() == state)
}

/// Whether the state that the record shows has ended. `before` was foreseen when the state was set,
/// and nothing is foreseen now.
#[must_use]
pub fn has_ended(state: &str, before: Option<Refusal>, halt: &Halt) -> bool {
    match before {
        // Nobody has read the halt yet, so it may still hold.
        Some(Refusal::Halted) if *halt == Halt::Unknown => false,
        Some(before) => state == before.label(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::settings::{Key, Settings};

    fn record(settings: &[(Key, &str)], change: impl FnOnce(&mut OptInSpec)) -> OptInSpec {
        let mut understood = Settings::built_in();
        settings.iter().for_each(|(key, value)| understood.set(*key, value).unwrap());
        let mut record = OptInSpec {
            namespace_uid: "n-1".to_owned(),
            verdict: Verdict::Admitted,
            reason: None,
            admission: None,
            settings: Some(RecordedSettings::from(&understood)),
            halt: None,
        };
        change(&mut record);
        record
    }

    #[test]
    fn what_needs_no_look_is_foreseen() {
        let halted = || Halt::Yes("4711".to_owned());
        // Noon is on a Monday.
        let late = [(Key::ActiveHours, "Mon 13:00-14:00 UTC")];
        let ended = [(Key::Expires, "2026-11-23T12:00:00Z")];
        let day = [(Key::Except, "2026-11-23")];
        for (record, halt, expected) in [
            (record(&[], |_| {}), Halt::No, None),
            (record(&[], |_| {}), Halt::Unknown, None),
            (record(&[], |_| {}), halted(), Some(Refusal::Halted)),
            (record(&[], |record| record.halt = Some(String::new())), Halt::No, Some(Refusal::Halted)),
            (
                record(&[], |record| record.verdict = Verdict::NotAdmitted),
                Halt::No,
                Some(Refusal::NotAdmitted),
            ),
            (
                record(&[], |record| record.verdict = Verdict::NotUnderstood),
                Halt::No,
                Some(Refusal::UnknownSetting),
            ),
            (
                record(&[], |record| record.reason = Some("quota".to_owned())),
                Halt::No,
                Some(Refusal::NoRights),
            ),
            (record(&late, |_| {}), Halt::No, Some(Refusal::OutsideActiveHours)),
            (record(&ended, |_| {}), Halt::No, Some(Refusal::Expired)),
            (record(&day, |_| {}), Halt::No, Some(Refusal::Excepted)),
        ] {
            let now = "2026-11-23T12:00:00Z".parse().unwrap();
            let found = foreseen("a", &record, &halt, &PlatformPolicy::built_in(), now);
            assert_eq!(found.map(|forbidden| forbidden.refusal), expected, "{record:?} {halt:?}");
        }
    }

    #[test]
    fn a_state_ends_with_what_it_tells_of_and_not_before() {
        for (state, before, halt, expected) in [
            ("halted", Some(Refusal::Halted), Halt::No, true),
            ("halted", Some(Refusal::Halted), Halt::Unknown, false),
            ("halted", None, Halt::No, false),
            ("too_young", Some(Refusal::Halted), Halt::No, false),
            ("outside_active_hours", Some(Refusal::OutsideActiveHours), Halt::Unknown, true),
        ] {
            assert_eq!(has_ended(state, before, &halt), expected, "{state} {before:?} {halt:?}");
        }
    }
}

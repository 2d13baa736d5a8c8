//! Whether an opt-in can ever kill. A valid opt-in may still be pointless, and then its owner
//! should hear of it.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::excluded_days::Days;
use crate::platform::PlatformPolicy;
use crate::schedule::Schedule;
use crate::settings::Settings;

/// The most slots that [`never_kills`] checks. After each slot the search jumps to the next instant
/// at which kills are allowed. With one span of active hours a day, this many slots cover more than
/// a year.
const SLOTS: usize = 400;
/// How far ahead the search looks, in days. Nobody waits longer than a year for a first kill.
const HORIZON_DAYS: i64 = 366;

/// Says in a sentence why an opt-in never kills within a year from `now`. `None` if it may kill.
///
/// A namespace that is being created has no UID yet, so its slots are unknown. Then only the
/// conditions that do not depend on the UID are checked.
#[must_use]
pub fn never_kills(
    settings: &Settings,
    policy: &PlatformPolicy,
    uid: Option<&str>,
    now: Timestamp,
) -> Option<&'static str> {
    let is_unlimited = settings.expires.is_none()
        && settings.active_hours.is_none()
        && [&settings.except, &policy.except].into_iter().all(Option::is_none);
    if is_unlimited && !matches!(settings.schedule, Schedule::Cron(_)) {
        return None;
    }
    let year = now.checked_add((HORIZON_DAYS * 24).hours()).unwrap_or(Timestamp::MAX);
    let end = settings.expires.map_or(year, |expires| expires.min(year));
    if end <= now {
        return Some("this opt-in never kills: purechaos.dev/expires has passed");
    }
    if next_allowed(settings, policy, now).is_none_or(|allowed| allowed >= year) {
        return Some("this opt-in never kills: active-hours and except leave no time");
    }
    let timetable = settings.timetable(policy.ceilings.shortest_interval);
    let mut from = now;
    for _ in 0..SLOTS {
        let Some(slot) = timetable.next_after(uid.unwrap_or_default(), from) else {
            return Some("this opt-in never kills: its schedule never fires");
        };
        // Without a UID, only the slots of `cron` are known, and no further check of them is
        // needed.
        uid?;
        let allowed = next_allowed(settings, policy, slot).unwrap_or(Timestamp::MAX);
        if slot >= end || allowed >= end {
            return Some(match settings.expires {
                Some(_) if slot >= end && from == now => {
                    "this opt-in never kills: it expires before its first round"
                }
                Some(expires) if expires <= year => {
                    "this opt-in never kills: no round of its schedule is in active-hours before it expires"
                }
                _ => "this opt-in never kills: no round of its schedule is in active-hours within a year",
            });
        }
        if allowed == slot {
            return None;
        }
        from = allowed.checked_sub(1.milliseconds()).unwrap_or(allowed);
    }
    None
}

/// Whether `instant` is on a day without chaos, of the namespace or of the platform.
#[must_use]
pub fn is_excepted(settings: &Settings, policy: &PlatformPolicy, instant: Timestamp) -> bool {
    let day = instant.to_zoned(settings.zone()).date();
    [&settings.except, &policy.except].into_iter().flatten().any(|days| days.cover(day))
}

/// The earliest instant, not before `instant`, at which a round may take place: it is in the active
/// hours, and not on an excepted day. `None` if the search finds none.
fn next_allowed(settings: &Settings, policy: &PlatformPolicy, instant: Timestamp) -> Option<Timestamp> {
    let zone = settings.zone();
    let mut instant = instant;
    // Each step leaves a span or a range of days behind, and a namespace has few of them. The limit
    // makes sure that no namespace can make this loop long.
    for _ in 0..SLOTS {
        let opening = match &settings.active_hours {
            Some(hours) => hours.next_opening(instant)?,
            None => instant,
        };
        let free = [&settings.except, &policy.except]
            .into_iter()
            .flatten()
            .try_fold(opening, |instant, days| next_free(days, &zone, instant))?;
        if free == opening && !is_excepted(settings, policy, opening) {
            return Some(opening);
        }
        instant = free;
    }
    None
}

/// `instant` if its day is free. Otherwise the beginning of the next free day.
fn next_free(days: &Days, zone: &TimeZone, instant: Timestamp) -> Option<Timestamp> {
    let day = instant.to_zoned(zone.clone()).date();
    let free = days.next_free(day)?;
    if free == day { Some(instant) } else { Some(free.to_zoned(zone.clone()).ok()?.timestamp()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Key;

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn outlook(pairs: &[(Key, &str)]) -> Option<&'static str> {
        outlook_of(pairs, Some("2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f"))
    }

    fn outlook_of(pairs: &[(Key, &str)], uid: Option<&str>) -> Option<&'static str> {
        let mut settings = Settings::built_in();
        pairs.iter().for_each(|(key, value)| settings.set(*key, value).unwrap());
        never_kills(&settings, &PlatformPolicy::built_in(), uid, now())
    }

    #[test]
    fn what_may_kill_is_not_warned_of() {
        for pairs in [
            &[][..],
            &[(Key::Schedule, "mtbf 8h"), (Key::Expires, "2026-12-24T18:00:00Z")],
            &[(Key::Schedule, "cron 0 3 * * *")],
            &[(Key::ActiveHours, "Sun 03:00-03:30 Europe/Berlin"), (Key::Except, "2026-11-23/2027-03-01")],
            &[(Key::Schedule, "cron 0 9 1 * *"), (Key::ActiveHours, "Mon 09:00-09:01 UTC")],
            &[(Key::Schedule, "cron 0 0 29 2 *"), (Key::DryRun, "true")],
        ] {
            // The first slot of the last schedule is in 2028. So a year passes without a round, and
            // the opt-in gets a warning.
            let expected = pairs.iter().any(|(_, value)| value.contains("29 2"));
            assert_eq!(outlook(pairs).is_some(), expected, "{pairs:?}: {:?}", outlook(pairs));
        }
    }

    #[test]
    fn what_never_kills_is_said_in_one_short_line() {
        for (pairs, expected) in [
            (&[(Key::ActiveHours, "Mon 09:00-09:00 UTC")][..], "active-hours and except leave no time"),
            (&[(Key::Except, "2026-01-01/2030-01-01")], "active-hours and except leave no time"),
            (&[(Key::Expires, "2026-11-23T12:00:00Z")], "purechaos.dev/expires has passed"),
            (&[(Key::Expires, "2026-11-23T12:00:01Z")], "it expires before its first round"),
            (
                &[(Key::Schedule, "cron 0 3 * * *"), (Key::ActiveHours, "Mon-Fri 09:00-17:00 UTC")],
                "no round of its schedule",
            ),
        ] {
            let sentence = outlook(pairs).unwrap_or_else(|| panic!("{pairs:?}"));
            assert!(sentence.contains(expected), "{sentence}");
            assert!(sentence.len() <= 120);
        }
    }

    #[test]
    fn a_daily_round_that_always_misses_the_hours_is_noticed() {
        // The UID decides at which hour the daily slot falls. One window contains that hour, and
        // the other window is twelve hours later.
        let mut settings = Settings::built_in();
        settings.set(Key::Schedule, "every 1d").unwrap();
        let uid = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";
        let slot = settings.timetable(std::time::Duration::from_secs(60)).next_after(uid, now()).unwrap();
        let hour = slot.to_zoned(TimeZone::UTC).hour();
        let window = |hour: i8| format!("Mon-Sun {:02}:00-{:02}:59 UTC", hour % 24, hour % 24);
        assert_eq!(outlook(&[(Key::Schedule, "every 1d"), (Key::ActiveHours, &window(hour))]), None);
        assert!(outlook(&[(Key::Schedule, "every 1d"), (Key::ActiveHours, &window(hour + 12))]).is_some());
        assert_eq!(
            outlook_of(&[(Key::Schedule, "every 1d"), (Key::ActiveHours, &window(hour + 12))], None),
            None
        );
    }
}

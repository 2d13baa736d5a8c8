//! Which slot to serve now.

use std::time::Duration;

use jiff::Timestamp;
use policy::schedule::Timetable;

/// A slot that is later than this is skipped: after a suspended machine or a stepped clock a round would come out of schedule.
pub const LATEST: Duration = Duration::from_secs(30);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A round, for this slot.
    Round(Timestamp),
    /// A slot went by more than [`LATEST`] ago: it is skipped.
    Missed(Timestamp),
}

/// A slot to be served.
#[derive(Debug, Clone, Copy)]
pub struct Serve<'a> {
    /// Its instant.
    pub slot: Timestamp,
    /// What it was computed from; none for a round that was asked for, which every workload takes part in.
    pub timetable: Option<&'a Timetable>,
    /// Everything but the effect, whatever the settings, and the slot isn't spent.
    pub dry_run: bool,
}

/// What is due in a namespace at `now`, when no slot at or before `floor` may be served.
#[must_use]
pub fn due(timetable: &Timetable, namespace_uid: &str, floor: Timestamp, now: Timestamp) -> Due {
    match timetable.newest_in(namespace_uid, floor, now) {
        None => Due::Nothing,
        Some(slot) if Duration::try_from(now.duration_since(slot)).is_ok_and(|late| late > LATEST) => {
            Due::Missed(slot)
        }
        Some(slot) => Due::Round(slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::settings::Settings;

    const UID: &str = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";

    #[test]
    fn a_slot_is_due_once_and_not_too_late() {
        let timetable = Settings::built_in().timetable(Duration::from_secs(60));
        let floor: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        // A golden value of `policy`.
        let slot: Timestamp = "2026-11-23T12:04:44.363Z".parse().unwrap();
        let after = |time: Duration| slot.checked_add(time).unwrap();
        let at = |floor, now| due(&timetable, UID, floor, now);
        assert_eq!(at(floor, slot.checked_sub(Duration::from_millis(1)).unwrap()), Due::Nothing);
        assert_eq!(at(floor, slot), Due::Round(slot));
        assert_eq!(at(floor, after(LATEST)), Due::Round(slot));
        assert_eq!(at(floor, after(LATEST + Duration::from_millis(1))), Due::Missed(slot));
        assert_eq!(at(slot, after(LATEST)), Due::Nothing, "served before");
        assert_eq!(at(after(LATEST), slot), Due::Nothing, "the clock stepped back");
    }
}

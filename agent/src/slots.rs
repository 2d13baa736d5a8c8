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
    /// A slot comes too soon after the last one, because a round was asked for or the schedule changed: it is skipped.
    TooSoon(Timestamp),
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

/// The instant at or before which no slot is served any more. It only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor(Timestamp);

impl Floor {
    /// Of a process that begins at `now` and finds this last slot in the record: what was due before it began is not its own.
    #[must_use]
    pub fn new(last_slot: Option<Timestamp>, now: Timestamp) -> Self {
        Self(last_slot.map_or(now, |last| last.max(now)))
    }

    /// Raises it to an instant, if that is later.
    pub fn raise(&mut self, to: Timestamp) {
        self.0 = self.0.max(to);
    }

    /// The instant.
    #[must_use]
    pub fn instant(self) -> Timestamp {
        self.0
    }
}

/// What is due in a namespace at `now`, where `last` is the last slot that was served. Of several slots that went by only the newest is.
#[must_use]
pub fn due(
    timetable: &Timetable,
    namespace_uid: &str,
    floor: Floor,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    match timetable.newest_in(namespace_uid, floor.instant(), now) {
        None => Due::Nothing,
        Some(slot) if Duration::try_from(now.duration_since(slot)).is_ok_and(|late| late > LATEST) => {
            Due::Missed(slot)
        }
        Some(slot) if timetable.is_too_soon(slot, last) => Due::TooSoon(slot),
        Some(slot) => Due::Round(slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use policy::schedule::Schedule;
    use policy::settings::Settings;
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;

    const UID: &str = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";

    #[test]
    fn a_slot_is_due_once_and_not_too_late() {
        let timetable = Settings::built_in().timetable(Duration::from_secs(60));
        let floor: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        // A golden value of `policy`.
        let slot: Timestamp = "2026-11-23T12:04:44.363Z".parse().unwrap();
        let after = |time: Duration| slot.checked_add(time).unwrap();
        let at = |floor, now| due(&timetable, UID, Floor(floor), None, now);
        assert_eq!(at(floor, slot.checked_sub(Duration::from_millis(1)).unwrap()), Due::Nothing);
        assert_eq!(at(floor, slot), Due::Round(slot));
        assert_eq!(at(floor, after(LATEST)), Due::Round(slot));
        assert_eq!(at(floor, after(LATEST + Duration::from_millis(1))), Due::Missed(slot));
        assert_eq!(at(slot, after(LATEST)), Due::Nothing, "served before");
        assert_eq!(at(after(LATEST), slot), Due::Nothing, "the clock stepped back");
    }

    #[test]
    fn a_round_that_was_asked_for_keeps_its_distance() {
        let asked: Timestamp = "2026-11-23T12:01:00Z".parse().unwrap();
        let floor: Timestamp = "2026-11-23T12:00:30Z".parse().unwrap();
        let mut settings = Settings::built_in();
        settings.also_at = Some(asked);
        let timetable = settings.timetable(Duration::from_secs(60));
        let before = |seconds| Some(asked.checked_sub(Duration::from_secs(seconds)).unwrap());
        let with = |last| due(&timetable, UID, Floor(floor), last, asked);
        assert_eq!(with(None), Due::Round(asked));
        assert_eq!(with(before(60)), Due::Round(asked));
        assert_eq!(with(before(59)), Due::TooSoon(asked));
        assert_eq!(due(&timetable, UID, Floor(asked), None, asked), Due::Nothing, "served before");

        // And so does a scheduled one that follows it.
        let next = timetable.next_after(UID, asked).unwrap();
        let after = |asked| {
            settings.also_at = Some(asked);
            due(&settings.timetable(Duration::from_secs(60)), UID, Floor(asked), Some(asked), next)
        };
        let before = |seconds| next.checked_sub(Duration::from_secs(seconds)).unwrap();
        assert_eq!([59, 60].map(before).map(after), [Due::TooSoon(next), Due::Round(next)]);
    }

    /// What can happen to a process and its clock.
    #[derive(Debug, Clone)]
    enum Happening {
        /// Time goes by, in seconds.
        Passes(i64),
        /// The wall clock is set to another time, or the process was stopped: so many seconds forwards or back.
        Steps(i64),
        /// Another process begins, by this machine's clock, and reads the record.
        Restarts,
        /// The record is made anew.
        RecordLost,
        /// A round is asked for in so many seconds, instead of the one that was, or none any more.
        Asks(Option<i64>),
    }

    fn passes() -> impl Strategy<Value = Happening> {
        (1..400_000_i64).prop_map(Happening::Passes)
    }

    fn intact_record() -> impl Strategy<Value = Vec<Happening>> {
        let step = (-200_000..200_000_i64).prop_map(Happening::Steps);
        let each = prop_oneof![3 => passes(), 2 => step, 1 => Just(Happening::Restarts), 1 => asks()];
        prop::collection::vec(each, 1..120)
    }

    fn asks() -> impl Strategy<Value = Happening> {
        prop::option::of(0..20_000_i64).prop_map(Happening::Asks)
    }

    /// A clock that is right, so that the distance of slots is one in time.
    fn asked_for_often() -> impl Strategy<Value = Vec<Happening>> {
        let passes = (1..9_000_i64).prop_map(Happening::Passes);
        prop::collection::vec(prop_oneof![2 => passes, 1 => Just(Happening::Restarts), 2 => asks()], 1..120)
    }

    /// A record that is lost, and a clock that at the same time goes back: then nobody can know what was served.
    fn lost_record() -> impl Strategy<Value = Vec<Happening>> {
        let step = (0..200_000_i64).prop_map(Happening::Steps);
        let each = prop_oneof![3 => passes(), 1 => step, 1 => Just(Happening::RecordLost), 1 => Just(Happening::Restarts)];
        prop::collection::vec(each, 1..120)
    }

    fn timetables() -> impl Strategy<Value = Timetable> {
        let schedules =
            ["every 3h", "every 90m", "every 7d", "mtbf 8h", "cron 20 9-17 * * Mon-Fri", "cron 30 2 * * *"];
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"];
        // In the first half of 2026, where each life begins.
        let also_at = prop::option::of(1_767_225_600..1_782_864_000_i64);
        (prop::sample::select(schedules.to_vec()), prop::sample::select(zones.to_vec()), also_at).prop_map(
            |(schedule, zone, also_at)| Timetable {
                schedule: Schedule::parse(schedule).unwrap(),
                also_at: also_at.map(|second| Timestamp::from_second(second).unwrap()),
                zone: TimeZone::get(zone).unwrap(),
                shortest_interval: Duration::from_secs(3_600),
            },
        )
    }

    /// A life of a namespace: each slot that was served with the instant of its round.
    fn live(
        timetable: &Timetable,
        happenings: &[Happening],
    ) -> Result<Vec<(Timestamp, Timestamp)>, TestCaseError> {
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (mut last_slot, mut floor, mut began) = (None, Floor::new(None, now), now);
        let mut served = Vec::new();
        let second = Duration::from_secs(1);
        let mut timetable = timetable.clone();
        for happening in happenings {
            let end = match happening {
                Happening::Passes(seconds) => {
                    now.checked_add(Duration::from_secs(seconds.unsigned_abs())).unwrap()
                }
                Happening::Steps(seconds) => {
                    now = now.checked_add(jiff::SignedDuration::from_secs(*seconds)).unwrap();
                    now
                }
                Happening::Restarts => {
                    (floor, began) = (Floor::new(last_slot, now), now);
                    now
                }
                Happening::RecordLost => {
                    last_slot = None;
                    now
                }
                Happening::Asks(seconds) => {
                    let ahead = |seconds| now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
                    timetable.also_at = seconds.map(ahead);
                    now
                }
            };
            let before = served.len();
            loop {
                match due(&timetable, UID, floor, last_slot, now) {
                    Due::Nothing => {}
                    Due::Missed(slot) | Due::TooSoon(slot) => floor.raise(slot),
                    Due::Round(slot) => {
                        floor.raise(slot);
                        prop_assert!(
                            slot > began || now < began,
                            "a kill at the start: {slot}, begun {began}"
                        );
                        prop_assert!(Some(slot) > last_slot, "{slot} again, after {last_slot:?}");
                        last_slot = Some(slot);
                        served.push((slot, now));
                    }
                }
                let next = timetable.next_after(UID, floor.instant()).filter(|next| *next <= end);
                match next {
                    // As the agent sleeps: until the slot, or not at all.
                    Some(next) => now = now.max(next),
                    None => break,
                }
                if now > end {
                    break;
                }
            }
            now = now.max(end);
            if !matches!(happening, Happening::Passes(_)) {
                prop_assert!(served.len() - before <= 1, "a burst: {:?}", &served[before..]);
            }
            // Whatever follows comes a moment later.
            now = now.checked_add(second).unwrap();
        }
        Ok(served)
    }

    fn check(served: &[(Timestamp, Timestamp)]) -> Result<(), TestCaseError> {
        let mut slots: Vec<_> = served.iter().map(|(slot, _)| *slot).collect();
        for (slot, at) in served {
            let late = Duration::try_from(at.duration_since(*slot));
            prop_assert!(late.is_ok_and(|late| late <= LATEST), "{slot} was served at {at}");
        }
        slots.sort_unstable();
        let all = slots.len();
        slots.dedup();
        prop_assert_eq!(slots.len(), all, "a slot that was served twice");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_slot_is_served_twice_nor_late_nor_because_something_started(
            timetable in timetables(), happenings in intact_record()
        ) {
            check(&live(&timetable, &happenings)?)?;
        }

        #[test]
        fn rounds_keep_their_distance_whatever_is_asked_for(timetable in timetables(), happenings in asked_for_often()) {
            let served = live(&timetable, &happenings)?;
            for pair in served.windows(2) {
                let gap = Duration::try_from(pair[1].0.duration_since(pair[0].0)).unwrap();
                prop_assert!(gap >= timetable.shortest_interval * 9 / 10, "{gap:?} between {pair:?}");
            }
        }

        #[test]
        fn a_lost_record_is_no_second_round(timetable in timetables(), happenings in lost_record()) {
            check(&live(&timetable, &happenings)?)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn over_years_no_slot_of_a_quiet_life_is_left_out(timetable in timetables(), years in 1..4_i64) {
            let timetable = Timetable { also_at: None, ..timetable };
            let days = vec![Happening::Passes(86_400); usize::try_from(years * 365).unwrap()];
            let served: Vec<Timestamp> = live(&timetable, &days)?.into_iter().map(|(slot, _)| slot).collect();
            let mut expected = Vec::new();
            let mut at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            while expected.len() < served.len() {
                at = timetable.next_after(UID, at).unwrap();
                expected.push(at);
            }
            prop_assert!(served.len() > 40, "{}", served.len());
            prop_assert_eq!(served, expected);
        }
    }
}

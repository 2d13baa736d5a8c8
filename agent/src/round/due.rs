//! Decides which slot to serve now.

use std::time::Duration;

use jiff::Timestamp;
use policy::schedule::Timetable;

/// The agent skips a slot that is later than this. After a suspended machine or a stepped clock,
/// the round would otherwise happen outside its schedule.
pub const LATEST: Duration = Duration::from_secs(30);

/// What the agent has to do at a given moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// No slot is due.
    Nothing,
    /// A round is due for this slot.
    Round(Timestamp),
    /// This slot passed more than [`LATEST`] ago. The agent skips it.
    Missed(Timestamp),
    /// This slot is too close to the last one, because a round was requested with `also-at` or the
    /// schedule changed. The agent skips it.
    TooSoon(Timestamp),
}

/// A slot that the agent serves.
#[derive(Debug, Clone, Copy)]
pub struct DueSlot<'a> {
    /// The instant of the slot.
    pub slot: Timestamp,
    /// The timetable from which the slot was computed. `None` for a round that was requested by
    /// hand: every workload takes part in it.
    pub timetable: Option<&'a Timetable>,
    /// Whether this round is a dry run, whatever the settings say. A dry run does everything except
    /// the kill, and does not spend the slot.
    pub dry_run: bool,
}

/// The agent serves no slot at or before this instant. The instant only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotWatermark(Timestamp);

impl SlotWatermark {
    /// The watermark of a process that starts at `now` and finds `last_slot` in the record. The
    /// process does not serve slots that were due before it started.
    #[must_use]
    pub fn new(last_slot: Option<Timestamp>, now: Timestamp) -> Self {
        Self(last_slot.map_or(now, |last| last.max(now)))
    }

    /// Moves the watermark forward to `to`. An earlier instant changes nothing.
    pub fn raise(&mut self, to: Timestamp) {
        self.0 = self.0.max(to);
    }

    /// The instant at or before which no slot is served.
    #[must_use]
    pub fn instant(self) -> Timestamp {
        self.0
    }
}

/// How long a slot waits for the platform's budget.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Says what is due in a namespace at `now`. `last` is the last slot that was served.
///
/// If several slots have passed, only the newest one counts. A slot that is `deferred`, because the
/// platform's budget was spent, may be up to [`LONGEST_WAIT`] late. The next slot must then still
/// be at least nine tenths of the shortest interval away.
#[must_use]
pub fn due(
    timetable: &Timetable,
    namespace_uid: &str,
    watermark: SlotWatermark,
    last: Option<Timestamp>,
    deferred: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    let is_later =
        |slot: Timestamp, than| Duration::try_from(now.duration_since(slot)).is_ok_and(|late| late > than);
    let may_wait = |slot: Timestamp| {
        let next = timetable.next_after(namespace_uid, slot);
        let least = timetable.shortest_interval * 9 / 10;
        let is_far = next
            .is_none_or(|next| Duration::try_from(next.duration_since(now)).is_ok_and(|gap| gap >= least));
        deferred == Some(slot) && is_far && !is_later(slot, LONGEST_WAIT)
    };
    match timetable.newest_in(namespace_uid, watermark.instant(), now) {
        None => Due::Nothing,
        Some(slot) if is_later(slot, LATEST) && !may_wait(slot) => Due::Missed(slot),
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
        let watermark: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        // The tests of `policy` have the same value.
        let slot: Timestamp = "2026-11-23T12:04:44.363Z".parse().unwrap();
        let after = |time: Duration| slot.checked_add(time).unwrap();
        let at = |watermark, now| due(&timetable, UID, SlotWatermark(watermark), None, None, now);
        assert_eq!(at(watermark, slot.checked_sub(Duration::from_millis(1)).unwrap()), Due::Nothing);
        assert_eq!(at(watermark, slot), Due::Round(slot));
        assert_eq!(at(watermark, after(LATEST)), Due::Round(slot));
        assert_eq!(at(watermark, after(LATEST + Duration::from_millis(1))), Due::Missed(slot));
        assert_eq!(at(slot, after(LATEST)), Due::Nothing, "served before");
        assert_eq!(at(after(LATEST), slot), Due::Nothing, "the clock stepped back");
    }

    #[test]
    fn a_round_that_was_asked_for_keeps_its_distance() {
        let asked: Timestamp = "2026-11-23T12:01:00Z".parse().unwrap();
        let watermark: Timestamp = "2026-11-23T12:00:30Z".parse().unwrap();
        let mut settings = Settings::built_in();
        settings.also_at = Some(asked);
        let timetable = settings.timetable(Duration::from_secs(60));
        let before = |seconds| Some(asked.checked_sub(Duration::from_secs(seconds)).unwrap());
        let with = |last| due(&timetable, UID, SlotWatermark(watermark), last, None, asked);
        assert_eq!(with(None), Due::Round(asked));
        assert_eq!(with(before(60)), Due::Round(asked));
        assert_eq!(with(before(59)), Due::TooSoon(asked));
        assert_eq!(
            due(&timetable, UID, SlotWatermark(asked), None, None, asked),
            Due::Nothing,
            "served before"
        );

        // A scheduled slot that follows the requested round keeps the same distance.
        let next = timetable.next_after(UID, asked).unwrap();
        let after = |asked| {
            settings.also_at = Some(asked);
            due(
                &settings.timetable(Duration::from_secs(60)),
                UID,
                SlotWatermark(asked),
                Some(asked),
                None,
                next,
            )
        };
        let before = |seconds| next.checked_sub(Duration::from_secs(seconds)).unwrap();
        assert_eq!([59, 60].map(before).map(after), [Due::TooSoon(next), Due::Round(next)]);
    }

    /// What can happen to a process and its clock.
    #[derive(Debug, Clone)]
    enum Happening {
        /// This many seconds pass.
        Passes(i64),
        /// Somebody sets the wall clock, or the process was suspended. The clock jumps this many
        /// seconds forward or back.
        Steps(i64),
        /// Another process starts on the same machine and reads the record.
        Restarts,
        /// The record is deleted and created again, so the last slot is lost.
        RecordLost,
        /// A round is requested for this many seconds from now, in place of any earlier request.
        /// `None` removes the request.
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

    /// Lives with a correct clock, so that the distance between slots is a distance in time.
    fn asked_for_often() -> impl Strategy<Value = Vec<Happening>> {
        let passes = (1..9_000_i64).prop_map(Happening::Passes);
        prop::collection::vec(prop_oneof![2 => passes, 1 => Just(Happening::Restarts), 2 => asks()], 1..120)
    }

    /// Lives in which the record is lost. The clock never steps back, because then no process could
    /// know which slots were served.
    fn lost_record() -> impl Strategy<Value = Vec<Happening>> {
        let step = (0..200_000_i64).prop_map(Happening::Steps);
        let each = prop_oneof![3 => passes(), 1 => step, 1 => Just(Happening::RecordLost), 1 => Just(Happening::Restarts)];
        prop::collection::vec(each, 1..120)
    }

    fn timetables() -> impl Strategy<Value = Timetable> {
        let schedules =
            ["every 3h", "every 90m", "every 7d", "mtbf 8h", "cron 20 9-17 * * Mon-Fri", "cron 30 2 * * *"];
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"];
        // Each simulated life begins in the first half of 2026.
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

    /// Simulates the life of a namespace. Returns each slot that was served, with the instant of
    /// its round.
    fn live(
        timetable: &Timetable,
        happenings: &[Happening],
    ) -> Result<Vec<(Timestamp, Timestamp)>, TestCaseError> {
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (mut last_slot, mut watermark, mut began) = (None, SlotWatermark::new(None, now), now);
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
                    (watermark, began) = (SlotWatermark::new(last_slot, now), now);
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
                match due(&timetable, UID, watermark, last_slot, None, now) {
                    Due::Nothing => {}
                    Due::Missed(slot) | Due::TooSoon(slot) => watermark.raise(slot),
                    Due::Round(slot) => {
                        watermark.raise(slot);
                        prop_assert!(
                            slot > began || now < began,
                            "a kill at the start: {slot}, begun {began}"
                        );
                        prop_assert!(Some(slot) > last_slot, "{slot} again, after {last_slot:?}");
                        last_slot = Some(slot);
                        served.push((slot, now));
                    }
                }
                let next = timetable.next_after(UID, watermark.instant()).filter(|next| *next <= end);
                match next {
                    // The agent sleeps in the same way: until the next slot, or not at all.
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
            // The next event comes one second later.
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

//! Finds and remembers the next slots. Each Pod event asks for them, and a search for the next
//! instant of a `cron` expression can take long. So this module searches again only if the
//! schedule, the watermark or the last slot has changed, or if the next round has come.

use jiff::Timestamp;
use policy::schedule::Timetable;

use crate::round::due::SlotWatermark;

/// The next slot and the next round of a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Next {
    /// The first slot after the watermark. Its time may have come already.
    pub(super) slot: Option<Timestamp>,
    /// The first slot in the future that is not skipped for being too close to the last one.
    pub(super) round: Option<Timestamp>,
}

/// The result of the last search, if it is still known.
#[derive(Debug, Default)]
pub(super) struct Upcoming(Option<Known>);

#[derive(Debug)]
struct Known {
    watermark: SlotWatermark,
    last: Option<Timestamp>,
    /// When the search happened. If the clock was set back since then, a new search may find an
    /// earlier slot.
    at: Timestamp,
    next: Next,
}

impl Upcoming {
    /// Forgets the result, because the schedule or the namespace's UID has changed.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// The next slots at `now` in the namespace with this UID. `last` is the last slot that was
    /// served.
    pub(super) fn at(
        &mut self,
        timetable: &Timetable,
        uid: &str,
        watermark: SlotWatermark,
        last: Option<Timestamp>,
        now: Timestamp,
    ) -> Next {
        let still_holds = |known: &&Known| {
            let is_to_come = known.next.round.is_none_or(|round| now < round);
            known.watermark == watermark && known.last == last && known.at <= now && is_to_come
        };
        if let Some(known) = self.0.as_ref().filter(still_holds) {
            return known.next;
        }
        let next = look(timetable, uid, watermark, last, now);
        self.0 = Some(Known { watermark, last, at: now, next });
        next
    }
}

fn look(
    timetable: &Timetable,
    uid: &str,
    watermark: SlotWatermark,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Next {
    let slot = timetable.next_after(uid, watermark.instant());
    let from = watermark.instant().max(now).max(last.unwrap_or(Timestamp::MIN));
    // The search ends, because a slot that is at least the shortest interval away is never too
    // soon.
    let rounds =
        std::iter::successors(timetable.next_after(uid, from), |slot| timetable.next_after(uid, *slot));
    let round = rounds.into_iter().find(|slot| !timetable.is_too_soon(*slot, last));
    Next { slot, round }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use policy::settings::{Key, Settings};
    use std::time::Duration;

    const UID: &str = "2f9c1a52-6a0b-4f7e-9d8e-3c5b7a1e0d4f";

    fn timetable(schedule: &str) -> Timetable {
        let mut settings = Settings::built_in();
        settings.set(Key::Schedule, schedule).unwrap();
        settings.timetable(Duration::from_secs(60))
    }

    #[test]
    fn what_is_remembered_is_what_would_be_found() {
        let start: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        for schedule in ["every 10m", "cron 7 */2 * * *", "mtbf 8h"] {
            let timetable = timetable(schedule);
            let (mut upcoming, mut watermark, mut last) =
                (Upcoming::default(), SlotWatermark::new(None, start), None);
            let mut now = start;
            for step in 0..600_i64 {
                // The clock moves forward, and sometimes back.
                now += if step % 50 == 49 { -700 } else { 60 + step % 7 }.seconds();
                let seen = upcoming.at(&timetable, UID, watermark, last, now);
                assert_eq!(seen, look(&timetable, UID, watermark, last, now), "{schedule} at {now}");
                if let Some(slot) = seen.slot.filter(|slot| *slot <= now) {
                    watermark.raise(slot);
                    last = Some(slot);
                }
            }
        }
    }

    #[test]
    fn nothing_is_looked_for_twice() {
        let start: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let (watermark, mut upcoming) = (SlotWatermark::new(None, start), Upcoming::default());
        let known = upcoming.at(&timetable("every 10m"), UID, watermark, None, start);
        // Another timetable would give another slot. `upcoming` does not ask it until `forget` says
        // that the record has changed.
        let other = timetable("cron 0 3 * * *");
        let later = start + 3.minutes();
        assert_eq!(upcoming.at(&other, UID, watermark, None, later), known);
        assert_ne!(
            upcoming.at(&other, UID, SlotWatermark::new(None, later), None, later),
            known,
            "another floor"
        );
        upcoming.at(&timetable("every 10m"), UID, watermark, None, start);
        assert_ne!(upcoming.at(&other, UID, watermark, Some(start), later), known, "another last slot");
        upcoming.at(&timetable("every 10m"), UID, watermark, None, start);
        assert_ne!(
            upcoming.at(&other, UID, watermark, None, known.round.unwrap()),
            known,
            "the round has come"
        );
        upcoming.at(&timetable("every 10m"), UID, watermark, None, start);
        upcoming.forget();
        assert_ne!(upcoming.at(&other, UID, watermark, None, later), known);
    }
}

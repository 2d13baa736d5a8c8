//! When rounds are due.
//!
//! Pure Chaos computes slots and does not store them. The identity of a slot is its instant, which
//! is a pure function of the schedule and the namespace's UID. So neither a restart nor a lost
//! record can make a slot come twice.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::active_hours::ActiveHours;
use crate::cron::{CronExpression, NoCron};
use crate::durations;

/// When the rounds of a namespace happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// One round in each interval of this length. The moment differs from namespace to namespace,
    /// and jitter delays each round by up to a tenth of the interval.
    Every(Duration),
    /// Rounds at the instants of a cron expression, without jitter.
    Cron(CronExpression),
    /// Each workload loses Pods at random. The duration is the mean time between two kills of the
    /// same workload.
    Mtbf(Duration),
}

/// The form of a schedule, for error messages.
pub const EXPECTED: &str = "`every 10m`, `cron 0 9-17 * * Mon-Fri` (five fields) or `mtbf 8h`";

impl Schedule {
    /// Reads `every 10m`, `cron 0 9-17 * * Mon-Fri` or `mtbf 8h`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        match word {
            "every" => durations::parse(rest).map(Self::Every),
            "cron" => CronExpression::parse(rest).map(Self::Cron),
            "mtbf" => durations::parse(rest).map(Self::Mtbf),
            _ => None,
        }
    }

    /// Says what is wrong with a text that is not a schedule. `None` if [`EXPECTED`] says all that
    /// there is to say.
    #[must_use]
    pub fn advice(text: &str) -> Option<String> {
        let expression = text.strip_prefix("cron ").unwrap_or(text).trim();
        if let Some(interval) = expression.strip_prefix("@every ") {
            return Some(format!("write `every {interval}`"));
        }
        match CronExpression::read(expression) {
            Ok(cron) => Some(format!("write `cron {}`", cron.text())),
            Err(NoCron::ZoneInFront) => {
                Some("write the zone last, as in `cron 0 9 * * * Europe/Berlin`".to_owned())
            }
            Err(NoCron::Never) => Some("this schedule never fires: its months have no such day".to_owned()),
            Err(NoCron::Form) => None,
        }
    }

    /// The time zone that the schedule names. `None` if it names none.
    #[must_use]
    pub fn zone(&self) -> Option<&TimeZone> {
        match self {
            Self::Cron(cron) => cron.zone(),
            Self::Every(_) | Self::Mtbf(_) => None,
        }
    }

    /// Whether rounds come closer together than `shortest`. For `mtbf`, whether the mean time
    /// between the kills of one workload is shorter.
    #[must_use]
    pub fn is_denser_than(&self, shortest: Duration) -> bool {
        match self {
            Self::Every(interval) | Self::Mtbf(interval) => *interval < shortest,
            Self::Cron(cron) => cron.is_denser_than(shortest),
        }
    }
}

impl Schedule {
    /// Whether this is the rarer of two schedules of the same kind, `every` or `mtbf`.
    #[must_use]
    pub fn is_rarer_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Every(this), Self::Every(other)) | (Self::Mtbf(this), Self::Mtbf(other)) => this > other,
            _ => false,
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {}", durations::print(*interval)),
            Self::Cron(cron) => write!(f, "cron {}", cron.text()),
            Self::Mtbf(mean) => write!(f, "mtbf {}", durations::print(*mean)),
        }
    }
}

/// A schedule with everything else that its slots depend on, except the namespace's UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// When rounds happen.
    pub schedule: Schedule,
    /// One more slot, in which every workload takes part.
    pub also_at: Option<Timestamp>,
    /// The time zone of a `cron` schedule.
    pub zone: TimeZone,
    /// The platform's shortest interval. Slots of `mtbf` are this far apart.
    pub shortest_interval: Duration,
}

impl Timetable {
    /// A timetable in the time zone that the schedule names. If it names none, this is the time
    /// zone of the active hours, or UTC if there are none.
    #[must_use]
    pub fn new(
        schedule: Schedule,
        also_at: Option<Timestamp>,
        hours: Option<&ActiveHours>,
        shortest_interval: Duration,
    ) -> Self {
        let zone = schedule.zone().or(hours.map(ActiveHours::zone)).cloned().unwrap_or(TimeZone::UTC);
        Self { schedule, also_at, zone, shortest_interval }
    }

    /// The first slot after `instant`. `None` if there is no further slot, or at the end of
    /// representable time.
    #[must_use]
    pub fn next_after(&self, uid: &str, instant: Timestamp) -> Option<Timestamp> {
        let extra = self.also_at.filter(|extra| *extra > instant);
        self.scheduled_after(uid, instant).into_iter().chain(extra).min()
    }

    fn scheduled_after(&self, uid: &str, instant: Timestamp) -> Option<Timestamp> {
        if let Schedule::Cron(cron) = &self.schedule {
            return cron.next_after(instant, &self.zone);
        }
        let around = self.index_around(uid, instant);
        (around - 1..=around + 1).filter_map(|n| self.slot(uid, n)).find(|slot| *slot > instant)
    }

    /// The newest slot in (`after`, `until`]. Only the newest one is still worth a round.
    #[must_use]
    pub fn newest_in(&self, uid: &str, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let extra = self.also_at.filter(|extra| *extra > after && *extra <= until);
        self.newest_scheduled_in(uid, after, until).into_iter().chain(extra).max()
    }

    fn newest_scheduled_in(&self, uid: &str, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        if let Schedule::Cron(cron) = &self.schedule {
            return cron.newest_until(until, &self.zone).filter(|slot| *slot > after);
        }
        let around = self.index_around(uid, until);
        (around - 1..=around + 1)
            .rev()
            .filter_map(|n| self.slot(uid, n))
            .find(|slot| *slot <= until)
            .filter(|slot| *slot > after)
    }

    /// Whether a workload is due in this slot, so that it may lose a Pod.
    ///
    /// With `mtbf` M and slots D apart, a workload is due if and only if U < 1 − exp(−D/M), where U
    /// in [0, 1) is computed from the UIDs and the slot. So the rate of a workload depends neither
    /// on its number of Pods nor on other workloads. Every workload is due in a slot of another
    /// schedule, and in the slot that `also-at` asks for.
    #[must_use]
    pub fn is_due(&self, uid: &str, workload_uid: &str, slot: Timestamp) -> bool {
        let Schedule::Mtbf(mean) = self.schedule else {
            return true;
        };
        if self.also_at == Some(slot) {
            return true;
        }
        let n = self.index_around(uid, slot);
        let drawn = hash(&[uid.as_bytes(), workload_uid.as_bytes(), &n.to_be_bytes()]);
        // A double holds 53 bits exactly.
        let uniform = (drawn >> 11) as f64 / (1_u64 << 53) as f64;
        uniform < -(-self.interval().as_secs_f64() / mean.as_secs_f64()).exp_m1()
    }

    /// Whether a workload takes part in a slot of this timetable, if its Pod template narrows the
    /// schedule to `own` (see [`crate::narrowing`]). With `every`, the workload takes part in the
    /// first slot after each slot of its own, which the workload's UID places. With `mtbf`, it is due
    /// as if the namespace had its schedule.
    #[must_use]
    pub fn is_due_by(&self, own: &Schedule, uid: &str, workload_uid: &str, slot: Timestamp) -> bool {
        if self.also_at == Some(slot) {
            return true;
        }
        let of_own = Self { schedule: own.clone(), also_at: None, ..self.clone() };
        match (&self.schedule, own) {
            (Schedule::Mtbf(_), Schedule::Mtbf(_)) => of_own.is_due(uid, workload_uid, slot),
            (Schedule::Every(interval), Schedule::Every(_)) => {
                let before = |time: Duration| slot.checked_sub(time).unwrap_or(Timestamp::MIN);
                // Jitter brings two slots at most a tenth of the interval farther apart.
                let last =
                    self.newest_scheduled_in(uid, before(*interval * 2), before(Duration::from_millis(1)));
                of_own.newest_in(workload_uid, last.unwrap_or_else(|| before(*interval)), slot).is_some()
            }
            // The narrowing would not have been accepted.
            _ => false,
        }
    }

    /// Whether the slot comes too soon after `last`, the last slot that was served. The agent skips
    /// such a slot, because otherwise it would be a way around the platform's ceiling.
    ///
    /// - If `also-at` asks for one of the two slots, they must be at least the shortest interval
    ///   apart.
    /// - A `cron` slot is never too soon after another one of the same expression. A clock change
    ///   can bring the two an hour closer, and must not decide which slots are served.
    /// - All other slots must be at least nine tenths of the shortest interval apart, because
    ///   jitter brings slots that close.
    #[must_use]
    pub fn is_too_soon(&self, slot: Timestamp, last: Option<Timestamp>) -> bool {
        // Users can replace or remove `also-at`. Then the last slot is neither on the schedule nor
        // in `also-at`, and only its instant is known.
        let is_asked_for = |slot: Timestamp| self.also_at == Some(slot);
        last.is_some_and(|last| {
            let least = match &self.schedule {
                _ if is_asked_for(slot) || is_asked_for(last) => self.shortest_interval,
                Schedule::Cron(cron) if cron.newest_until(last, &self.zone) == Some(last) => Duration::ZERO,
                _ => self.shortest_interval * 9 / 10,
            };
            // A slot that is not after the last one cannot be served, so the question does not
            // arise.
            slot > last && Duration::try_from(slot.duration_since(last)).is_ok_and(|since| since < least)
        })
    }

    /// The time between two slots, without jitter. For `cron` the value has no meaning.
    fn interval(&self) -> Duration {
        match self.schedule {
            Schedule::Every(interval) => interval,
            Schedule::Mtbf(_) | Schedule::Cron(_) => self.shortest_interval,
        }
    }

    /// The instant of slot n, in milliseconds since the Unix epoch: n·D + H(uid) mod D + H(uid, n)
    /// mod D/10. D is the interval, and H is the first 8 bytes of SHA-256.
    fn slot(&self, uid: &str, n: i64) -> Option<Timestamp> {
        let length = self.milliseconds();
        let jitter = hash(&[uid.as_bytes(), &n.to_be_bytes()]) % (length / 10).max(1);
        let start = i64::try_from(length).ok()?.checked_mul(n)?;
        let offset = i64::try_from(phase(uid, length) + jitter).ok()?;
        Timestamp::from_millisecond(start.checked_add(offset)?).ok()
    }

    /// The index of the interval that contains `instant`. Jitter never moves a slot by a whole
    /// interval, so callers need to look only at this index and its two neighbours.
    fn index_around(&self, uid: &str, instant: Timestamp) -> i64 {
        let length = self.milliseconds();
        let phase = i64::try_from(phase(uid, length)).unwrap_or(0);
        (instant.as_millisecond() - phase).div_euclid(i64::try_from(length).unwrap_or(i64::MAX))
    }

    fn milliseconds(&self) -> u64 {
        self.interval().as_secs().saturating_mul(1_000).max(1)
    }
}

fn phase(uid: &str, length: u64) -> u64 {
    hash(&[uid.as_bytes()]) % length
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod years;

#[cfg(test)]
mod tests;

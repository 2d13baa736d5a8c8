//! Decides what to do with the Lease that was just read.
//!
//! Another process's Lease has expired when it has not changed for [`LEASE_DURATION`], by this
//! process's own monotonic clock. The rule uses no other machine's clock, so clock skew does not
//! matter. Each write carries a resourceVersion, so if two processes write at the same time, only
//! one succeeds.

use std::time::Duration;

use tokio::time::Instant;

/// How long another process's Lease stays valid without a change. This is the default of client-go.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long after its last renewal a leader still acts. It is shorter than [`LEASE_DURATION`], so
/// that a leader has stopped before another begins. This is the default of client-go.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// The longest time between two looks at a missing Lease. After a longer time, the Lease may have
/// existed in between.
const BLINK: Duration = Duration::from_secs(5);

/// The parts of the Lease that the rule needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The identity of the holder. Empty if the Lease was released.
    pub holder: String,
    /// The resourceVersion of the Lease.
    pub version: String,
}

/// What to do with the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Create the Lease, because it has been missing for long enough. The installation creates the
    /// Lease. If it is missing, somebody deleted it, and its holder may not know yet.
    Create,
    /// Take the Lease, because it is free or its holder has not renewed it for long enough.
    Take,
    /// Renew the Lease, because this process holds it.
    Renew,
    /// Wait, because another process holds the Lease or may believe that it does.
    Wait,
}

/// The state of the election, as one process sees it.
#[derive(Debug)]
pub struct Election {
    identity: String,
    /// Another process's Lease as it last changed, and when this process noticed the change.
    other: Option<(Seen, Instant)>,
    /// Whether this process has seen that holder renew the Lease.
    is_renewed: bool,
    /// Since when the Lease has been missing, and when that was last noticed.
    missing: Option<(Instant, Instant)>,
}

impl Election {
    /// The state of a process that has seen nothing yet. No two processes may have the same
    /// identity, not even one after the other.
    #[must_use]
    pub fn new(identity: String) -> Self {
        Self { identity, other: None, is_renewed: false, missing: None }
    }

    /// The identity of this process.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether the other holder has renewed the Lease since this process first saw it.
    #[must_use]
    pub fn is_renewed(&self) -> bool {
        self.is_renewed
    }

    /// Decides what to do with the Lease that was read at `now`. `None` means that there is no
    /// Lease.
    pub fn step(&mut self, lease: Option<Seen>, now: Instant) -> Step {
        let Some(lease) = lease else {
            let since = self.missing.filter(|(_, last)| now.saturating_duration_since(*last) < BLINK);
            let since = since.map_or(now, |(since, _)| since);
            self.missing = Some((since, now));
            return if is_recent(since, now) { Step::Wait } else { Step::Create };
        };
        self.missing = None;
        if lease.holder == self.identity {
            return Step::Renew;
        }
        if lease.holder.is_empty() {
            return Step::Take;
        }
        match &self.other {
            Some((known, since)) if *known == lease => {
                if is_recent(*since, now) {
                    Step::Wait
                } else {
                    Step::Take
                }
            }
            known => {
                self.is_renewed = known.as_ref().is_some_and(|(known, _)| known.holder == lease.holder);
                self.other = Some((lease, now));
                Step::Wait
            }
        }
    }
}

fn is_recent(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < LEASE_DURATION
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::clock::{Clock, TokioClock};

    fn seen(holder: &str, version: &str) -> Option<Seen> {
        Some(Seen { holder: holder.to_owned(), version: version.to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn anothers_lease_ends_only_by_silence() {
        let start = TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH).monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut election = Election::new("b".to_owned());
        assert_eq!(election.step(seen("a", "1"), at(0)), Step::Wait);
        assert_eq!(election.step(seen("a", "1"), at(14)), Step::Wait);
        assert!(!election.is_renewed());
        // The holder renews the Lease, and the time begins anew.
        assert_eq!(election.step(seen("a", "2"), at(14)), Step::Wait);
        assert!(election.is_renewed());
        assert_eq!(election.step(seen("a", "2"), at(28)), Step::Wait);
        assert_eq!(election.step(seen("a", "2"), at(29)), Step::Take);
        // Another process took the Lease first.
        assert_eq!(election.step(seen("c", "3"), at(29)), Step::Wait);
        assert!(!election.is_renewed(), "of this one no sign was seen");
        assert_eq!(election.step(seen("", "4"), at(30)), Step::Take, "let go");
        assert_eq!(election.step(seen("b", "5"), at(31)), Step::Renew);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_taken_away_is_made_again_when_its_holder_must_have_noticed() {
        let start = TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH).monotonic();
        let mut election = Election::new("b".to_owned());
        let mut step = |seconds, lease| election.step(lease, start + Duration::from_secs(seconds));
        for second in 0..15 {
            assert_eq!(step(second, None), Step::Wait, "{second}");
        }
        assert_eq!(step(15, None), Step::Create);
        assert_eq!(step(16, seen("c", "1")), Step::Wait);
        assert_eq!(step(17, None), Step::Wait, "gone again");
        // This process was suspended for too long to know whether the Lease existed in between.
        assert_eq!(step(40, None), Step::Wait);
        for second in 41..55 {
            assert_eq!(step(second, None), Step::Wait, "{second}");
        }
        assert_eq!(step(55, None), Step::Create);
    }

    #[test]
    fn a_leader_stops_before_another_begins() {
        assert!(RENEW_DEADLINE < LEASE_DURATION);
    }
}

//! Who leads, as a rule: what to do with the Lease that was just read.
//!
//! Another's Lease has ended when it has not changed for [`LEASE_DURATION`] of this process's own monotonic time. No other machine's clock is
//! asked, so skew between clocks means nothing; a resourceVersion in each write means that of two who try one succeeds.

use std::time::Duration;

use tokio::time::Instant;

/// How long another's Lease holds without a sign of life (client-go's default).
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long after its last renewal a leader still acts. Less than the duration, so that it has stopped when another begins (client-go's default).
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at a missing Lease no more time may pass than this, else it may have been there in between.
const BLINK: Duration = Duration::from_secs(5);

/// The Lease, as far as the rule asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty when it was let go.
    pub holder: String,
    /// Its resourceVersion.
    pub version: String,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There has been none for long enough: make it. Installed with the rest, it is missing only where somebody took it away, and its
    /// holder may not know yet.
    Create,
    /// It is free, or its holder gave no sign of life for long enough: take it.
    Take,
    /// It is this process's own: renew it.
    Renew,
    /// Somebody else holds it, or may believe so.
    Wait,
}

/// One process's view of the election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    /// The other's Lease as it last changed, and when that was noticed.
    other: Option<(Seen, Instant)>,
    /// Whether that other was seen to renew it.
    is_renewed: bool,
    /// Since when there has been no Lease, and when that was last seen.
    missing: Option<(Instant, Instant)>,
}

impl Election {
    /// A process that has seen nothing yet. No two may have the same identity, nor one process and its successor.
    #[must_use]
    pub fn new(identity: String) -> Self {
        Self { identity, other: None, is_renewed: false, missing: None }
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether the other who holds the Lease has given a sign of life since it was first seen.
    #[must_use]
    pub fn is_renewed(&self) -> bool {
        self.is_renewed
    }

    /// What to do about the Lease as it was read at `now`; `None` if there is none.
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
        // A sign of life, and the time begins anew.
        assert_eq!(election.step(seen("a", "2"), at(14)), Step::Wait);
        assert!(election.is_renewed());
        assert_eq!(election.step(seen("a", "2"), at(28)), Step::Wait);
        assert_eq!(election.step(seen("a", "2"), at(29)), Step::Take);
        // Somebody else was faster.
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
        // What was there while this process was stopped isn't known.
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

//! Tells `/readyz` whether the ticks succeed.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How many intervals may pass without a successful tick. One tick may fail, and its repetition may
/// be slow.
const MOST_INTERVALS: u32 = 3;

/// When the last tick succeeded, and why a later one failed.
#[derive(Debug)]
pub struct Health {
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    succeeded: Option<Instant>,
    failure: Option<String>,
}

impl Health {
    /// Creates the state for ticks that come every `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { limit: interval * MOST_INTERVALS, state: Mutex::default() }
    }

    /// Notes that a tick succeeded.
    pub fn succeeded(&self, now: Instant) {
        *self.state.lock() = State { succeeded: Some(now), failure: None };
    }

    /// Notes that a tick failed, and why.
    pub fn failed(&self, why: String) {
        self.state.lock().failure = Some(why);
    }

    /// Checks that a tick succeeded recently.
    ///
    /// # Errors
    /// Returns the reason, for people, if no tick succeeded within three intervals.
    pub fn check(&self, now: Instant) -> Result<(), String> {
        let state = self.state.lock();
        match (state.succeeded, &state.failure) {
            (Some(succeeded), _) if now.duration_since(succeeded) <= self.limit => Ok(()),
            (_, Some(why)) => Err(why.clone()),
            (Some(_), None) => Err("the last tick does not end".to_owned()),
            (None, None) => Err("the first tick has not ended yet".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::clock::{Clock, SystemClock};

    #[test]
    fn ready_while_a_tick_succeeded_within_three_intervals() {
        let start = SystemClock.monotonic();
        let at = |second| start + Duration::from_secs(second);
        let health = Health::new(Duration::from_secs(10));
        assert!(health.check(at(0)).is_err());
        health.failed("no rights".to_owned());
        assert_eq!(health.check(at(1)), Err("no rights".to_owned()));
        health.succeeded(at(2));
        health.failed("API server away".to_owned());
        assert_eq!(health.check(at(32)), Ok(()));
        assert_eq!(health.check(at(33)), Err("API server away".to_owned()));
        health.succeeded(at(34));
        assert!(health.check(at(65)).is_err(), "a tick that hangs");
    }
}

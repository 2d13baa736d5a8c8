//! Whether the loop works, for `/readyz`.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// How many intervals may pass without a tick that succeeded: one may fail and its repetition be slow.
const MOST_INTERVALS: u32 = 3;

/// The last tick that succeeded, and why the last one did not.
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
    /// For ticks every `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { limit: interval * MOST_INTERVALS, state: Mutex::default() }
    }

    /// A tick succeeded.
    pub fn succeeded(&self, now: Instant) {
        *self.state() = State { succeeded: Some(now), failure: None };
    }

    /// A tick failed.
    pub fn failed(&self, why: String) {
        self.state().failure = Some(why);
    }

    /// Whether a tick succeeded lately.
    ///
    /// # Errors
    /// What is missing, for a person.
    pub fn check(&self, now: Instant) -> Result<(), String> {
        let state = self.state();
        match (state.succeeded, &state.failure) {
            (Some(succeeded), _) if now.duration_since(succeeded) <= self.limit => Ok(()),
            (_, Some(why)) => Err(why.clone()),
            (Some(_), None) => Err("the last tick does not end".to_owned()),
            (None, None) => Err("the first tick has not ended yet".to_owned()),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Whole at any time, so what a panic left behind is good.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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

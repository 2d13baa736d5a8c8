//! The platform's budget: how many kills there may be in the whole cluster in any minute.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Shared by all namespaces. What an earlier process spent isn't known, but a process serves no slot that came before it.
#[derive(Debug)]
pub struct Budget {
    kills_per_minute: usize,
    spent: Mutex<VecDeque<Instant>>,
}

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(kills_per_minute: u32) -> Self {
        let kills_per_minute = usize::try_from(kills_per_minute).unwrap_or(usize::MAX);
        Self { kills_per_minute, spent: Mutex::default() }
    }

    /// Spends one kill, if there is one left in the minute before `now`. A kill that is tried counts, however it ends.
    #[must_use]
    pub fn spend(&self, now: Instant) -> bool {
        // Each change is whole before anything can panic.
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        while spent.front().is_some_and(|first| now.saturating_duration_since(*first) >= MINUTE) {
            spent.pop_front();
        }
        let is_left = spent.len() < self.kills_per_minute;
        if is_left {
            spent.push_back(now);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::clock::{Clock, TokioClock};

    #[tokio::test(start_paused = true)]
    async fn no_minute_holds_more_kills() {
        let budget = Budget::new(2);
        let start = TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH).monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let spent: Vec<bool> = [0, 30, 59, 60, 61, 90, 91].map(|seconds| budget.spend(at(seconds))).to_vec();
        assert_eq!(spent, [true, true, false, true, false, true, false]);
    }
}

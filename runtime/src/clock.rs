//! The one place that reads the clocks; everything else is given a `Clock`, or just `now`.

#[cfg(feature = "test-clock")]
use std::sync::Arc;
#[cfg(feature = "test-clock")]
use std::sync::atomic::{AtomicI64, Ordering};

#[cfg(feature = "test-clock")]
use jiff::SignedDuration;
use jiff::Timestamp;
use tokio::time::Instant;

/// The two clocks: wall time for what people and the API server see, monotonic time for durations.
pub trait Clock: Send + Sync + 'static {
    /// Now, as the calendar has it.
    fn wall(&self) -> Timestamp;
    /// Now, on a clock that never steps.
    fn monotonic(&self) -> Instant;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one reader of the monotonic clock")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock for tests: it starts at a given wall time and follows tokio's time, which may be paused; its wall time may step.
#[cfg(feature = "test-clock")]
#[derive(Debug, Clone)]
pub struct TokioClock {
    start: Timestamp,
    origin: Instant,
    /// In milliseconds; shared by all clones.
    stepped: Arc<AtomicI64>,
}

#[cfg(feature = "test-clock")]
impl TokioClock {
    /// A clock that reads `start` now.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, origin: SystemClock.monotonic(), stepped: Arc::default() }
    }

    /// Moves the wall time by so many milliseconds, of this clock and of all its clones.
    pub fn step(&self, milliseconds: i64) {
        self.stepped.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

#[cfg(feature = "test-clock")]
impl Clock for TokioClock {
    fn wall(&self) -> Timestamp {
        let elapsed = SystemClock.monotonic().duration_since(self.origin);
        let stepped = SignedDuration::from_millis(self.stepped.load(Ordering::Relaxed));
        self.start.checked_add(elapsed).and_then(|wall| wall.checked_add(stepped)).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Instant {
        SystemClock.monotonic()
    }
}

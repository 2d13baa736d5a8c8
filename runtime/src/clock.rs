//! The only code that reads the clocks. All other code gets a [`Clock`] or an instant `now`.

#[cfg(feature = "test-clock")]
use std::sync::Arc;
#[cfg(feature = "test-clock")]
use std::sync::atomic::{AtomicI64, Ordering};

#[cfg(feature = "test-clock")]
use jiff::SignedDuration;
use jiff::Timestamp;
use tokio::time::Instant;

/// The two clocks: wall time for what people and the API server see, and monotonic time for
/// durations.
pub trait Clock: Send + Sync + 'static {
    /// The current wall time.
    fn wall(&self) -> Timestamp;
    /// The current time of a clock that never steps.
    fn monotonic(&self) -> Instant;
}

/// The clocks of the machine.
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

/// A clock for tests. Its wall time starts at a given instant and follows tokio's time, which a
/// test can pause. A test can also make the wall time step.
#[cfg(feature = "test-clock")]
#[derive(Debug, Clone)]
pub struct TokioClock {
    start: Timestamp,
    origin: Instant,
    /// By how many milliseconds the wall time has stepped. All clones share this value.
    stepped: Arc<AtomicI64>,
}

#[cfg(feature = "test-clock")]
impl TokioClock {
    /// Makes a clock whose wall time is `start` now.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, origin: SystemClock.monotonic(), stepped: Arc::default() }
    }

    /// Moves the wall time of this clock and of all its clones by so many milliseconds.
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

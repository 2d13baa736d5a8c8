//! The queue of namespaces that are due to be reconciled. Each namespace is in the queue at most
//! once, is never reconciled twice at the same time, and has its own back-off.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::clock::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The waits after the first, second and each further failure in a row. The last wait repeats. A
/// random part of up to half of the wait is added.
const BACK_OFF: [Duration; 8] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// The queue. Watches and reviews add namespaces, and one loop takes them out.
pub struct Queue {
    clock: Arc<dyn Clock>,
    /// Differs between replicas, so that two replicas that collide do not collide again.
    seed: u64,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    due: BTreeMap<String, Instant>,
    order: BTreeSet<(Instant, String)>,
    running: BTreeSet<String>,
    failures: BTreeMap<String, u32>,
}

impl Queue {
    /// Creates an empty queue. `seed` is any number, and each replica must have its own.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { clock, seed, inner: Mutex::default(), changed: Notify::new() }
    }

    /// Makes a namespace due now.
    pub fn add(&self, name: &str) {
        self.add_after(name, Duration::ZERO);
    }

    /// Makes a namespace due after `delay`, unless it is already due earlier.
    pub fn add_after(&self, name: &str, delay: Duration) {
        let at = self.clock.monotonic() + delay;
        // Wake the waiting loop only if this namespace is due before all others, because a wake-up
        // costs more than a review.
        if self.inner.lock().add(name, at) {
            self.changed.notify_one();
        }
    }

    /// Waits for the next namespace that is due. The caller must call [`Self::done`] or
    /// [`Self::failed`] afterwards. Only one caller may wait at a time.
    pub async fn next(&self) -> String {
        loop {
            let wait = match self.inner.lock().take(self.clock.monotonic()) {
                Ok(name) => return name,
                Err(next) => next,
            };
            let changed = self.changed.notified();
            match wait {
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Ends the work on a namespace in which all is as it should be. With `again`, the namespace is
    /// due again after that time.
    pub fn done(&self, name: &str, again: Option<Duration>) {
        let mut inner = self.inner.lock();
        inner.running.remove(name);
        inner.failures.remove(name);
        if let Some(delay) = again {
            let at = self.clock.monotonic() + delay;
            inner.add(name, at);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Ends the work on a namespace after a failure. The namespace is due again after its own
    /// back-off, which is returned.
    pub fn failed(&self, name: &str) -> Duration {
        let mut inner = self.inner.lock();
        inner.running.remove(name);
        let failures = inner.failures.entry(name.to_owned()).or_default();
        let step = BACK_OFF[(*failures as usize).min(BACK_OFF.len() - 1)];
        *failures = failures.saturating_add(1);
        let delay = step + self.jitter(step / 2, name, *failures);
        // If the namespace changed meanwhile, it is already due, and stays due at that earlier
        // time.
        inner.add(name, self.clock.monotonic() + delay);
        drop(inner);
        self.changed.notify_one();
        delay
    }

    /// Returns a part of `most` that differs between replicas, names and attempts.
    #[must_use]
    pub fn jitter(&self, most: Duration, name: &str, attempt: u32) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, name, attempt).hash(&mut hasher);
        most.mul_f64((hasher.finish() % 1_000) as f64 / 1_000.0)
    }
}

impl Inner {
    /// Adds a namespace, and returns whether it is now the first one that can be taken.
    fn add(&mut self, name: &str, at: Instant) -> bool {
        match self.due.get(name) {
            Some(known) if *known <= at => return false,
            Some(_) => self.remove(name),
            None => {}
        }
        self.due.insert(name.to_owned(), at);
        self.order.insert((at, name.to_owned()));
        self.first().is_some_and(|(_, first)| first == name)
    }

    fn remove(&mut self, name: &str) {
        if let Some(at) = self.due.remove(name) {
            self.order.remove(&(at, name.to_owned()));
        }
    }

    /// Returns the earliest namespace that nobody is working on.
    fn first(&self) -> Option<&(Instant, String)> {
        self.order.iter().find(|(_, name)| !self.running.contains(name))
    }

    /// Takes the earliest namespace that is due and that nobody is working on. If there is none,
    /// returns when the next one is due.
    fn take(&mut self, now: Instant) -> Result<String, Option<Instant>> {
        match self.first().cloned() {
            Some((at, name)) if at <= now => {
                self.remove(&name);
                self.running.insert(name.clone());
                Ok(name)
            }
            Some((at, _)) => Err(Some(at)),
            None => Err(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::clock::TokioClock;

    fn queue() -> Queue {
        Queue::new(Arc::new(TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap())), 7)
    }

    async fn next_within(queue: &Queue, limit: Duration) -> Option<String> {
        tokio::time::timeout(limit, queue.next()).await.ok()
    }

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_name_comes_once_and_not_while_it_is_looked_at() {
        let queue = queue();
        queue.add("a");
        queue.add("a");
        assert_eq!(next_within(&queue, SHORT).await.as_deref(), Some("a"));
        assert_eq!(next_within(&queue, SHORT).await, None);
        queue.add("a");
        queue.add("b");
        assert_eq!(next_within(&queue, SHORT).await.as_deref(), Some("b"));
        assert_eq!(next_within(&queue, SHORT).await, None);
        queue.done("a", None);
        assert_eq!(next_within(&queue, SHORT).await.as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_time_counts() {
        let queue = queue();
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(9));
        assert_eq!(next_within(&queue, Duration::from_millis(4_990)).await, None);
        assert_eq!(next_within(&queue, Duration::from_millis(20)).await.as_deref(), Some("a"));
        queue.done("a", Some(Duration::from_secs(1)));
        assert_eq!(next_within(&queue, Duration::from_millis(990)).await, None);
        assert_eq!(next_within(&queue, Duration::from_millis(20)).await.as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn each_name_has_its_own_back_off_and_it_ends_with_success() {
        let queue = queue();
        let mut last = Duration::ZERO;
        for step in BACK_OFF {
            queue.add("a");
            assert_eq!(next_within(&queue, Duration::from_secs(100)).await.as_deref(), Some("a"));
            last = queue.failed("a");
            assert!(last >= step && last <= step * 3 / 2, "{last:?}");
            // Another namespace does not wait for this one.
            queue.add("b");
            assert_eq!(next_within(&queue, SHORT).await.as_deref(), Some("b"));
            queue.done("b", None);
        }
        assert!(last >= Duration::from_secs(60));
        assert_eq!(next_within(&queue, Duration::from_secs(100)).await.as_deref(), Some("a"));
        queue.done("a", None);
        queue.add("a");
        next_within(&queue, SHORT).await.unwrap();
        assert!(queue.failed("a") <= Duration::from_millis(300));
    }
}

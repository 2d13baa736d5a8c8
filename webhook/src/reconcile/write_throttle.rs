//! Delays writes of records, for two reasons: the other replica may know more, and somebody may
//! change each write back.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use policy::record::OptInSpec;
use tokio::time::Instant;

/// How long a replica that saw no admission waits before it writes `NotAdmitted`, so that a replica
/// that saw the admission can write first. Meanwhile the record's digest differs from the
/// Namespace's, so the agent kills no Pod there.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// The shortest time between two writes of the same record. One write repairs what somebody changed
/// by hand. With this limit, two replicas with different policies, which exist for a moment at each
/// change of the policy, do not overload the API server.
pub const REST: Duration = Duration::from_secs(5);

/// What each namespace waits for.
#[derive(Debug, Default)]
pub struct WriteThrottle(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The digest of annotations that nobody seems to have admitted, and since when.
    unseen: BTreeMap<String, (String, Instant)>,
    /// The spec that was written last, and when.
    written: BTreeMap<String, (OptInSpec, Instant)>,
}

impl WriteThrottle {
    /// Returns how long to wait before the webhook writes that annotations with this digest were
    /// not admitted; `None` when the wait is over.
    pub fn before_not_admitted(&self, namespace: &str, digest: &str, now: Instant) -> Option<Duration> {
        let mut inner = self.0.lock();
        let since = match inner.unseen.get(namespace) {
            Some((known, since)) if known == digest => *since,
            _ => {
                inner.unseen.insert(namespace.to_owned(), (digest.to_owned(), now));
                now
            }
        };
        remaining(since + PATIENCE, now)
    }

    /// Returns how long to wait before the same spec is written again; `None` unless it was just
    /// written.
    pub fn before_again(&self, namespace: &str, spec: &OptInSpec, now: Instant) -> Option<Duration> {
        match self.0.lock().written.get(namespace) {
            Some((known, at)) if known == spec => remaining(*at + REST, now),
            _ => None,
        }
    }

    /// Notes that this spec was written.
    pub fn wrote(&self, namespace: &str, spec: OptInSpec, now: Instant) {
        self.0.lock().written.insert(namespace.to_owned(), (spec, now));
    }

    /// Forgets a namespace that has no record, because nothing has to wait there.
    pub fn forget(&self, namespace: &str) {
        let mut inner = self.0.lock();
        inner.unseen.remove(namespace);
        inner.written.remove(namespace);
    }
}

fn remaining(until: Instant, now: Instant) -> Option<Duration> {
    until.checked_duration_since(now).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::record::Verdict;
    use runtime::clock::{Clock, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn patience_is_for_each_digest_and_ends() {
        let write_throttle = WriteThrottle::default();
        let now = || SystemClock.monotonic();
        assert_eq!(write_throttle.before_not_admitted("a", "d1", now()), Some(PATIENCE));
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(write_throttle.before_not_admitted("a", "d1", now()), Some(PATIENCE / 2));
        assert_eq!(write_throttle.before_not_admitted("a", "d2", now()), Some(PATIENCE));
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(write_throttle.before_not_admitted("a", "d2", now()), None);
        write_throttle.forget("a");
        assert_eq!(write_throttle.before_not_admitted("a", "d2", now()), Some(PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_same_record_rests() {
        let write_throttle = WriteThrottle::default();
        let now = || SystemClock.monotonic();
        let spec = |uid: &str| OptInSpec {
            namespace_uid: uid.to_owned(),
            verdict: Verdict::NotAdmitted,
            reason: None,
            admission: None,
            settings: None,
            halt: None,
        };
        assert_eq!(write_throttle.before_again("a", &spec("1"), now()), None);
        write_throttle.wrote("a", spec("1"), now());
        assert_eq!(write_throttle.before_again("a", &spec("1"), now()), Some(REST));
        assert_eq!(write_throttle.before_again("a", &spec("2"), now()), None);
        tokio::time::sleep(REST).await;
        assert_eq!(write_throttle.before_again("a", &spec("1"), now()), None);
    }
}

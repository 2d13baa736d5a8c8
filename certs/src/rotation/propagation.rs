//! Measures how long the CA has been seen in every webhook's `caBundle`.
//!
//! The time is kept in memory, on the monotonic clock. A time that is stored in a Secret would have
//! to be trusted across processes and clock steps. The price of forgetting the time is small: after
//! a restart in the middle of a rotation, the settle time begins again.

use std::time::Duration;

use tokio::time::Instant;

use crate::x509::certificate::Certificate;

/// Remembers since when the CA is in every `caBundle`.
#[derive(Debug, Default)]
pub struct Settled {
    since: Option<(Certificate, Instant)>,
}

impl Settled {
    /// Takes over what is injected at `now`. Returns how long `ca` has been there without a break.
    pub fn observe(
        &mut self,
        ca: Option<&Certificate>,
        injected: Option<&[Vec<u8>]>,
        now: Instant,
    ) -> Duration {
        let everywhere = |ca: &&Certificate| {
            injected.is_some_and(|bundles| bundles.iter().all(|pem| Certificate::all(pem).contains(ca)))
        };
        let Some(ca) = ca.filter(everywhere) else {
            self.since = None;
            return Duration::ZERO;
        };
        match &self.since {
            Some((seen, since)) if seen == ca => now.duration_since(*since),
            _ => {
                self.since = Some((ca.clone(), now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::bundle::pem;
    use crate::x509::issue::tests::{DAY, START, ca};
    use runtime::clock::{Clock, SystemClock};

    #[test]
    fn only_an_unbroken_time_in_all_webhooks_counts() {
        let start = SystemClock.monotonic();
        let [one, other] = [ca(START, DAY), ca(START, DAY)];
        let [one, other] = [one.certificate(), other.certificate()];
        let both = pem(&[one.clone(), other.clone()]).into_bytes();
        let only = pem(std::slice::from_ref(other)).into_bytes();
        let mut settled = Settled::default();
        let mut at = |second, ca, injected: Option<&[Vec<u8>]>| {
            settled.observe(ca, injected, start + Duration::from_secs(second)).as_secs()
        };
        assert_eq!(at(0, Some(one), Some(&[both.clone(), both.clone()])), 0);
        assert_eq!(at(5, Some(one), Some(&[both.clone(), both.clone()])), 5);
        assert_eq!(at(6, Some(one), Some(&[both.clone(), only.clone()])), 0, "gone from one webhook");
        assert_eq!(at(7, Some(one), Some(&[both.clone(), both.clone()])), 0, "begins again");
        assert_eq!(at(9, Some(one), Some(&[both.clone(), both.clone()])), 2);
        assert_eq!(at(10, Some(other), Some(&[both.clone(), only.clone()])), 0, "another CA");
        assert_eq!(at(11, Some(other), None), 0, "no configuration");
        assert_eq!(at(12, None, Some(&[both])), 0);
    }
}

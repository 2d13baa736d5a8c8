//! The metrics of certificates.

use jiff::Timestamp;
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

/// Name of the gauge of the second after which a certificate is not accepted any more; label `role` is `ca` or `serving`.
pub const NOT_AFTER: &str = "pure_chaos_certificate_not_after_timestamp_seconds";

/// The gauge [`NOT_AFTER`], not yet registered: `certs` sets role `ca`, the webhook role `serving`.
///
/// # Errors
/// Never with the names used here; the library checks them at run time.
pub fn not_after() -> prometheus::Result<IntGaugeVec> {
    let help = "When the certificate in use ends; role is ca (certs) or serving (webhook).";
    IntGaugeVec::new(Opts::new(NOT_AFTER, help), &["role"])
}

/// Name of the gauge of endpoints whose certificate is unknown or not trusted, which hold up a rotation.
pub const UNSEEN: &str = "pure_chaos_certificate_endpoints_unseen";

/// Name of the counter of bundles that somebody else had changed and that were put back.
pub const RESTORED: &str = "pure_chaos_certificate_bundles_restored_total";

/// Name of the counter of other changes of the webhook configuration, which certs only tells of.
pub const CHANGES: &str = "pure_chaos_webhook_configuration_changes_total";

/// What this process exports beside its build and its resources.
#[derive(Debug, Clone)]
pub struct Metrics {
    not_after: IntGaugeVec,
    unseen: IntGauge,
    restored: IntCounter,
    changes: IntCounter,
}

impl Metrics {
    /// The names of this process's own metrics.
    pub const NAMES: [&str; 4] = [NOT_AFTER, UNSEEN, RESTORED, CHANGES];

    /// Registers the metrics.
    ///
    /// # Errors
    /// When one of that name is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let not_after = not_after()?;
        registry.register(Box::new(not_after.clone()))?;
        let unseen = IntGauge::new(
            UNSEEN,
            "Ready endpoints of the webhook not seen to serve a certificate that the bundle accepts.",
        )?;
        registry.register(Box::new(unseen.clone()))?;
        let restored = IntCounter::new(
            RESTORED,
            "Times that certs put its bundle back into the webhook configuration after somebody else had changed it.",
        )?;
        registry.register(Box::new(restored.clone()))?;
        let changes = IntCounter::new(
            CHANGES,
            "Times that certs saw the webhook configuration changed in something else than caBundle, deleted, or made again.",
        )?;
        registry.register(Box::new(changes.clone()))?;
        Ok(Self { not_after, unseen, restored, changes })
    }

    /// Sets the end of the CA. Before the first call there is no series: a zero would look like a certificate that ended in 1970.
    pub fn ca_ends(&self, not_after: Timestamp) {
        self.not_after.with_label_values(&["ca"]).set(not_after.as_second());
    }

    /// Sets how many endpoints are not seen to serve what is trusted.
    pub fn endpoints_unseen(&self, count: usize) {
        self.unseen.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a bundle that somebody else had changed and that was put back.
    pub fn bundle_restored(&self) {
        self.restored.inc();
    }

    /// Counts a change by somebody else of anything but a bundle.
    pub fn configuration_changed(&self) {
        self.changes.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::tests::{START, at};

    #[test]
    fn exported_under_its_name_once_known() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let names = || registry.gather().iter().map(|family| family.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(), [RESTORED, UNSEEN, CHANGES]);
        metrics.ca_ends(at(START));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains(&format!("{NOT_AFTER}{{role=\"ca\"}} {START}")), "{text}");
        let mut expected = Metrics::NAMES;
        expected.sort_unstable();
        assert_eq!(names(), expected);
    }
}

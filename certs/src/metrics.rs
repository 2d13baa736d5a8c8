//! The metrics of `certs`.

use jiff::Timestamp;
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

/// Name of the gauge for the last second of a certificate. The label `role` is `ca` or `serving`.
pub const NOT_AFTER: &str = "pure_chaos_certificate_not_after_timestamp_seconds";

/// Creates the gauge [`NOT_AFTER`] without registering it. `certs` sets role `ca`. The webhook sets
/// role `serving`, in its own gauge of the same name.
///
/// # Errors
/// Never fails with the names used here, which the library checks at run time.
pub fn not_after() -> prometheus::Result<IntGaugeVec> {
    let help = "When the certificate in use ends; role is ca (certs) or serving (webhook).";
    IntGaugeVec::new(Opts::new(NOT_AFTER, help), &["role"])
}

/// Name of the gauge for endpoints whose certificate is unknown or not trusted. Such endpoints
/// delay a rotation.
pub const UNSEEN: &str = "pure_chaos_certificate_endpoints_unseen";

/// Name of the counter of bundles and paths that `certs` put back after somebody else had changed
/// them.
pub const RESTORED: &str = "pure_chaos_certificate_bundles_restored_total";

/// Name of the counter of other changes to the webhook configuration, which `certs` only reports.
pub const CHANGES: &str = "pure_chaos_webhook_configuration_changes_total";

/// The metrics that `certs` exports in addition to those of its build and its resources.
#[derive(Debug, Clone)]
pub struct Metrics {
    not_after: IntGaugeVec,
    unseen: IntGauge,
    restored: IntCounter,
    changes: IntCounter,
}

impl Metrics {
    /// The names of all these metrics.
    pub const NAMES: [&str; 4] = [NOT_AFTER, UNSEEN, RESTORED, CHANGES];

    /// Registers the metrics.
    ///
    /// # Errors
    /// Returns an error if one of the names is already registered.
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
            "Times that certs put its bundle or path back into the webhook configuration after somebody else had changed it.",
        )?;
        registry.register(Box::new(restored.clone()))?;
        let changes = IntCounter::new(
            CHANGES,
            "Times that certs saw the webhook configuration changed in something else than caBundle and path, deleted, or made again.",
        )?;
        registry.register(Box::new(changes.clone()))?;
        Ok(Self { not_after, unseen, restored, changes })
    }

    /// Sets the end of the CA. Before the first call there is no series, because a zero would look
    /// like a certificate that ended in 1970.
    pub fn ca_ends(&self, not_after: Timestamp) {
        self.not_after.with_label_values(&["ca"]).set(not_after.as_second());
    }

    /// Sets the number of endpoints that were not seen to serve a trusted certificate.
    pub fn endpoints_unseen(&self, count: usize) {
        self.unseen.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a bundle or a path that was put back after somebody else had changed it.
    pub fn bundle_restored(&self) {
        self.restored.inc();
    }

    /// Counts a change that somebody else made to anything but a bundle or a path.
    pub fn configuration_changed(&self) {
        self.changes.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::issue::tests::{START, at};

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

//! The metrics that the webhook exports in addition to those of its build and its process.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The upper bounds of the buckets, in seconds. The lowest ones measure a rule that reads nothing.
/// The API server waits 5 s, and the kill lock's own reads end after 3 s.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.0, 5.0];

/// The rule that decides a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Rule {
    /// Decides what may be written on a Namespace.
    OptIn,
    /// Decides which Pods the accounts of Pure Chaos may kill.
    Kill,
}

impl Rule {
    /// Both rules.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the metric label of the rule, which is also its route.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// How a review ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The webhook allowed the request.
    Allow,
    /// The rule denied the request.
    Deny,
    /// The webhook denied the request or did not answer, because something failed: the review, a
    /// read or the time limit.
    Error,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the metric label of the outcome.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// The metrics of the webhook. All clones count into the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    admissions: IntCounterVec,
    seconds: HistogramVec,
    not_after: Gauge,
    opt_ins: IntGauge,
    policy: IntGaugeVec,
    events_dropped: IntCounter,
    unauthenticated: IntCounter,
}

impl Metrics {
    /// Registers the metrics. Each combination of rule and decision starts at 0.
    ///
    /// # Errors
    /// Returns an error if one of the names is already registered.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let admissions = IntCounterVec::new(
            Opts::new("pure_chaos_admissions_total", "Admission reviews, by rule and decision."),
            &["rule", "decision"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "pure_chaos_admission_seconds",
                "Time from a review's arrival to its answer, by rule and decision.",
            )
            .buckets(BUCKETS.to_vec()),
            &["rule", "decision"],
        )?;
        let certificates = GaugeVec::new(
            Opts::new(
                "pure_chaos_certificate_not_after_timestamp_seconds",
                "When the certificate in use ends, in seconds of the Unix epoch; 0 while there is none.",
            ),
            &["role"],
        )?;
        let opt_ins = IntGauge::new("pure_chaos_opt_ins", "Records of namespaces that opted in.")?;
        let policy = IntGaugeVec::new(
            Opts::new("pure_chaos_policy_info", "The platform's policy that is obeyed; always 1."),
            &["hash"],
        )?;
        let unauthenticated = IntCounter::new(
            "pure_chaos_unauthenticated_requests_total",
            "Requests turned away unread, because their path is not the one in the webhook configuration.",
        )?;
        registry.register(Box::new(unauthenticated.clone()))?;
        registry.register(Box::new(admissions.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(certificates.clone()))?;
        registry.register(Box::new(opt_ins.clone()))?;
        registry.register(Box::new(policy.clone()))?;
        for rule in Rule::ALL {
            for outcome in Outcome::ALL {
                admissions.with_label_values(&[rule.label(), outcome.label()]);
                seconds.with_label_values(&[rule.label(), outcome.label()]);
            }
        }
        let not_after = certificates.with_label_values(&["serving"]);
        let events_dropped = runtime::events::dropped(registry)?;
        Ok(Self { admissions, seconds, not_after, opt_ins, policy, events_dropped, unauthenticated })
    }

    /// Returns the counter of Events that can't be written.
    #[must_use]
    pub fn events_dropped(&self) -> IntCounter {
        self.events_dropped.clone()
    }

    /// Counts a review that was answered after `time`.
    pub fn answered(&self, rule: Rule, outcome: Outcome, time: Duration) {
        let labels = [rule.label(), outcome.label()];
        self.admissions.with_label_values(&labels).inc();
        self.seconds.with_label_values(&labels).observe(time.as_secs_f64());
    }

    /// Counts a request that was turned away unread.
    pub fn unauthenticated(&self) {
        self.unauthenticated.inc();
    }

    /// Sets the end of the serving certificate, in seconds of the Unix epoch.
    pub fn certificate_ends(&self, second: i64) {
        self.not_after.set(second as f64);
    }

    /// Sets the number of records.
    pub fn records(&self, number: usize) {
        self.opt_ins.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Exports the hash of the policy file that the webhook obeys.
    pub fn obeys(&self, hash: &str) {
        self.policy.with_label_values(&[hash]).set(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.obeys("abc");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for rule in Rule::ALL {
            for outcome in Outcome::ALL {
                let labels = format!("{{decision=\"{}\",rule=\"{}\"}}", outcome.label(), rule.label());
                assert!(text.contains(&format!("pure_chaos_admissions_total{labels} 0")), "{text}");
                assert!(text.contains(&format!("pure_chaos_admission_seconds_count{labels} 0")), "{text}");
            }
        }
        assert!(text.contains("pure_chaos_certificate_not_after_timestamp_seconds{role=\"serving\"} 0"));
        assert!(text.contains("pure_chaos_opt_ins 0"));
        assert!(text.contains("pure_chaos_policy_info{hash=\"abc\"} 1"));
        assert!(text.contains("le=\"5\""), "the API server's limit is an edge");
    }

    #[test]
    fn what_happens_is_counted() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.answered(Rule::Kill, Outcome::Deny, Duration::from_millis(2));
        metrics.certificate_ends(1_800_000_000);
        metrics.records(3);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("pure_chaos_admissions_total{decision=\"deny\",rule=\"kill\"} 1"), "{text}");
        assert!(text.contains("{role=\"serving\"} 1800000000"), "{text}");
        assert!(text.contains("pure_chaos_opt_ins 3"), "{text}");
    }
}

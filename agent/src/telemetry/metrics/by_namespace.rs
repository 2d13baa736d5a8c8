//! Counters with a namespace and one fixed word as labels. A counter of the `prometheus` library
//! stores the name, the help text and the labels of its family in each series. With 40 series for
//! each namespace, that would be most of the memory of an idle namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

/// For each namespace, the words and their counts.
type Counts = BTreeMap<String, BTreeMap<&'static str, u64>>;

/// A family of counters with the label `target_namespace` and one other label.
#[derive(Clone)]
pub struct ByNamespace {
    family: Desc,
    /// The name of the other label.
    label: &'static str,
    counts: Arc<Mutex<Counts>>,
}

impl ByNamespace {
    /// A family without series.
    ///
    /// # Errors
    /// When Prometheus does not allow one of the names.
    pub fn new(name: &str, help: &str, label: &'static str) -> prometheus::Result<Self> {
        let labels = vec!["target_namespace".to_owned(), label.to_owned()];
        let family = Desc::new(name.to_owned(), help.to_owned(), labels, std::collections::HashMap::new())?;
        Ok(Self { family, label, counts: Arc::default() })
    }

    /// Starts the series of a namespace at 0, one for each word. Existing series keep their values.
    pub fn begin(&self, namespace: &str, words: impl Iterator<Item = &'static str>) {
        let mut counts = self.counts.lock();
        let series = counts.entry(namespace.to_owned()).or_default();
        for word in words {
            series.entry(word).or_default();
        }
    }

    /// Adds one to the counter of a namespace and a word.
    pub fn inc(&self, namespace: &str, word: &'static str) {
        *self.counts.lock().entry(namespace.to_owned()).or_default().entry(word).or_default() += 1;
    }

    /// Removes the series of a namespace.
    pub fn forget(&self, namespace: &str) {
        self.counts.lock().remove(namespace);
    }

    fn metric(&self, namespace: &str, word: &str, count: u64) -> Metric {
        let pair = |name: &str, value: &str| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let mut counter = Counter::default();
        counter.set_value(count as f64);
        let mut labels = vec![pair("target_namespace", namespace), pair(self.label, word)];
        labels.sort_by(|one, other| one.name().cmp(other.name()));
        let mut metric = Metric::from_label(labels);
        metric.set_counter(counter);
        metric
    }
}

impl Collector for ByNamespace {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.family]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = self.counts.lock();
        let series = counts.iter().flat_map(|(namespace, words)| {
            words.iter().map(|(word, count)| self.metric(namespace, word, *count))
        });
        let mut family = MetricFamily::default();
        family.set_name(self.family.fq_name.clone());
        family.set_help(self.family.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(series.collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{IntCounterVec, Opts, Registry, TextEncoder};

    #[test]
    fn it_is_exported_as_the_librarys_counters_are() {
        let (own, librarys) = (Registry::new(), Registry::new());
        let text = |registry: &Registry| TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let family = ByNamespace::new("a_total", "Help.", "reason").unwrap();
        own.register(Box::new(family.clone())).unwrap();
        assert!(own.register(Box::new(family.clone())).is_err(), "a name is taken once");
        let other =
            IntCounterVec::new(Opts::new("a_total", "Help."), &["target_namespace", "reason"]).unwrap();
        librarys.register(Box::new(other.clone())).unwrap();
        assert_eq!(text(&own), text(&librarys), "nothing while empty");

        family.begin("b", ["y", "x"].into_iter());
        family.inc("b", "x");
        family.inc("a", "x");
        other.with_label_values(&["b", "y"]);
        other.with_label_values(&["b", "x"]).inc();
        other.with_label_values(&["a", "x"]).inc();
        assert_eq!(text(&own), text(&librarys));
        family.begin("b", ["x"].into_iter());
        assert_eq!(text(&own), text(&librarys), "what has begun goes on");
        family.forget("b");
        assert!(!text(&own).contains("\"b\""));
    }
}

//! Reads what the kill lock needs of a Pod, within limits. A body may have 8 MiB, and the parsed
//! value must not take many times as much memory.

use std::collections::BTreeMap;
use std::fmt;

use policy::well_known::is_ours;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The most labels that are kept. Labels of ours are kept up to twice this number. Real Pods have
/// fewer.
const MOST_LABELS: usize = 256;
/// The longest key or value of a label, in bytes. The API server accepts keys of up to 317 bytes
/// and values of up to 63.
const LONGEST_LABEL: usize = 317;
/// The longest kind of an object, in bytes, which is also the API server's limit. The name of a
/// PriorityClass and the phase of a Pod have the same limit here. A longer text counts as missing.
const LONGEST_KIND: usize = 63;

/// The fields of a Pod's `spec` that the kill lock needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Whether the Pod has a node.
    #[serde(rename = "nodeName", deserialize_with = "is_something")]
    pub is_on_a_node: bool,
    /// Name of the Pod's PriorityClass.
    #[serde(deserialize_with = "kind")]
    pub priority_class_name: Option<String>,
    /// The Pod's own grace period, in seconds.
    pub termination_grace_period_seconds: Option<i64>,
}

/// The fields of a Pod's `status` that the kill lock needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Whether the Pod has finished, so that none of its containers will run again.
    #[serde(rename = "phase", deserialize_with = "is_final")]
    pub is_finished: bool,
}

/// The labels of an object, within limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// The labels that were kept.
    pub pairs: BTreeMap<String, String>,
    /// Whether labels were left out, because there are too many or because one is longer than it
    /// can be.
    pub is_cut: bool,
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Few;
        impl<'de> Visitor<'de> for Few {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }
            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Labels, M::Error> {
                let mut labels = Labels::default();
                while let Some((Bounded::<LONGEST_LABEL>(key), Bounded::<LONGEST_LABEL>(value))) =
                    map.next_entry()?
                {
                    match (key, value) {
                        (Some(key), Some(value))
                            if labels.pairs.len() < MOST_LABELS
                                || (is_ours(&key) && labels.pairs.len() < 2 * MOST_LABELS) =>
                        {
                            labels.pairs.insert(key, value);
                        }
                        _ => labels.is_cut = true,
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_any(Few)
    }
}

/// The kind of the controller among the owners of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controller(pub Option<String>);

impl<'de> Deserialize<'de> for Controller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Owner {
            #[serde(default, deserialize_with = "kind")]
            kind: Option<String>,
            #[serde(default)]
            controller: Option<bool>,
        }
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Controller;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("owners")
            }
            fn visit_unit<E>(self) -> Result<Controller, E> {
                Ok(Controller(None))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Controller, S::Error> {
                let mut found = Controller(None);
                while let Some(owner) = list.next_element::<Owner>()? {
                    if owner.controller == Some(true) {
                        found = Controller(owner.kind);
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// A string of at most `MOST` bytes; `None` for a longer one.
struct Bounded<const MOST: usize>(Option<String>);

impl<'de, const MOST: usize> Deserialize<'de> for Bounded<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<const MOST: usize>;
        impl<const MOST: usize> Visitor<'_> for Text<MOST> {
            type Value = Bounded<MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Bounded(None))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Bounded((text.len() <= MOST).then(|| text.to_owned())))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Bounded::<LONGEST_KIND>::deserialize(deserializer).map(|Bounded(text)| text)
}

fn is_final<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(matches!(kind(deserializer)?.as_deref(), Some("Succeeded" | "Failed")))
}

fn is_something<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Bounded::<LONGEST_LABEL>::deserialize(deserializer)?.0.is_none_or(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_kept_within_bounds_and_it_is_known_where_not() {
        let read = |labels: serde_json::Value| serde_json::from_value::<Labels>(labels).unwrap();
        assert_eq!(read(json!(null)), Labels::default());
        let few = read(json!({"app": "web", "empty": ""}));
        assert!(!few.is_cut && few.pairs["app"] == "web" && few.pairs["empty"].is_empty());
        let many: BTreeMap<String, String> =
            (0..=MOST_LABELS).map(|number| (number.to_string(), String::new())).collect();
        let many = read(json!(many));
        assert!(many.is_cut && many.pairs.len() == MOST_LABELS);
        assert!(read(json!({"app": "x".repeat(400)})).is_cut);
    }

    #[test]
    fn of_owners_the_controller_counts() {
        let read = |owners: serde_json::Value| serde_json::from_value::<Controller>(owners).unwrap().0;
        let owner =
            |kind: &str, controller: bool| json!({"kind": kind, "controller": controller, "uid": "u"});
        assert_eq!(read(json!(null)), None);
        assert_eq!(read(json!([{"kind": "Other"}, owner("Not", false)])), None);
        assert_eq!(
            read(json!([owner("Not", false), owner("StatefulSet", true)])).as_deref(),
            Some("StatefulSet")
        );
    }

    #[test]
    fn a_spec_of_another_kind_is_no_fault() {
        let namespace: Spec = serde_json::from_value(json!({"finalizers": ["kubernetes"]})).unwrap();
        assert_eq!(namespace, Spec::default());
        let pod = json!({"nodeName": "n", "priorityClassName": "high", "terminationGracePeriodSeconds": 5});
        let pod: Spec = serde_json::from_value(pod).unwrap();
        assert!(pod.is_on_a_node && pod.termination_grace_period_seconds == Some(5));
        assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
        for (phase, expected) in
            [("Succeeded", true), ("Failed", true), ("Running", false), ("Active", false)]
        {
            let status: Status = serde_json::from_value(json!({"phase": phase})).unwrap();
            assert_eq!(status.is_finished, expected, "{phase}");
        }
    }
}

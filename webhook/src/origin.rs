//! Who set a Namespace's chaos annotations and when, by the API server's own book: `metadata.managedFields`.
//!
//! A review shows the very entries that are then stored (tried, in every way of writing). So they tell the request that was admitted
//! from a later one with the same annotations that nobody reviewed. Times are whole seconds there, so within one second two requests of one
//! client look the same; and any write of one client to what it owns renews its time, so a difference alone proves nothing when versions in
//! between were not seen.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use policy::keys::is_chaos_key;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One client's entry, as far as it is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    fields_v1: Fields,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Fields {
    #[serde(default, rename = "f:metadata")]
    metadata: MetadataFields,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct MetadataFields {
    /// Whether one of the annotations is a chaos key.
    #[serde(default, rename = "f:annotations", deserialize_with = "any_is_chaos_key")]
    owns_consent: bool,
}

/// Looks at the keys and keeps none: there may be thousands.
fn any_is_chaos_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = bool;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("fields by their names")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<bool, M::Error> {
            let mut found = false;
            while let Some(IsChaosKey(is_one)) = map.next_key()? {
                map.next_value::<IgnoredAny>()?;
                found |= is_one;
            }
            Ok(found)
        }
    }
    deserializer.deserialize_map(Keys)
}

struct IsChaosKey(bool);

impl<'de> Deserialize<'de> for IsChaosKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Field;
        impl Visitor<'_> for Field {
            type Value = IsChaosKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }
            fn visit_str<E>(self, field: &str) -> Result<IsChaosKey, E> {
                Ok(IsChaosKey(field.strip_prefix("f:").is_some_and(is_chaos_key)))
            }
        }
        deserializer.deserialize_str(Field)
    }
}

impl From<ManagedFieldsEntry> for Entry {
    fn from(entry: ManagedFieldsEntry) -> Self {
        let fields = entry.fields_v1.map(|fields| fields.0).unwrap_or_default();
        Self {
            manager: entry.manager.unwrap_or_default(),
            operation: entry.operation.unwrap_or_default(),
            subresource: entry.subresource.unwrap_or_default(),
            time: entry.time.map(|time| time.0.to_string()).unwrap_or_default(),
            // What can't be read owns nothing.
            fields_v1: serde_json::from_value(fields).unwrap_or_default(),
        }
    }
}

/// Every entry that owns a chaos key, such as `kubectl-annotate Update 2026-11-23T12:00:00Z`, joined with `, `; empty if none does.
#[must_use]
pub fn origin(entries: &[Entry]) -> String {
    let owners = entries.iter().filter(|entry| entry.fields_v1.metadata.owns_consent);
    let words = owners.map(|Entry { manager, operation, subresource, time, .. }| {
        let parts = [manager, operation, subresource, time].map(String::as_str);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_owners_of_chaos_keys_are_named() {
        let fields = json!([
            {"manager": "kubectl-create", "operation": "Update", "time": "2026-11-23T11:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:team": {}}, "f:labels": {"f:a": {}}}}},
            {"manager": "kubectl-annotate", "operation": "Update", "time": "2026-11-23T12:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": {"f:chaos": {}, "f:team": {}}}}},
            {"manager": "argocd", "operation": "Apply", "subresource": "status",
                "fieldsV1": {"f:metadata": {"f:annotations": {"f:purechaos.dev/limit": {}}}}},
            {"manager": "halter", "operation": "Update",
                "fieldsV1": {"f:metadata": {"f:annotations": {"f:purechaos.dev/halt": {}}}}},
            {"manager": "odd", "fieldsV1": {}}
        ]);
        let read: Vec<Entry> = serde_json::from_value(fields.clone()).unwrap();
        let expected = "kubectl-annotate Update 2026-11-23T12:00:00Z, argocd Apply status";
        assert_eq!(origin(&read), expected);
        // The client's type says the same.
        let typed: Vec<ManagedFieldsEntry> = serde_json::from_value(fields).unwrap();
        assert_eq!(origin(&typed.into_iter().map(Entry::from).collect::<Vec<_>>()), expected);
        assert_eq!(origin(&[]), "");
    }
}

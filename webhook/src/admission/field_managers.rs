//! Reads who set a Namespace's chaos annotations and when, from `metadata.managedFields`, which the
//! API server keeps.
//!
//! A review shows exactly the entries that the API server then stores. We have tried this for every
//! way to write an annotation. So the entries tell an admitted request from a later request that
//! sets the same annotations without a review.
//!
//! Two limits remain. Times in the entries are whole seconds, so two requests of one client within
//! one second look the same. And each write of a client to its own fields renews the time, so a
//! different time proves nothing if versions in between were not seen.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use policy::well_known::is_chaos_key;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::admission::bounds::short;

/// The most entries of one object. An API server keeps ten entries of clients that update, and one
/// more for each client that applies.
const MOST_ENTRIES: usize = 1_000;
/// The longest origin in bytes. There is room for about fifty owners.
const LONGEST: usize = 4 * 1024;

/// One client's entry, with the fields that are needed here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default, deserialize_with = "short")]
    manager: String,
    #[serde(default, deserialize_with = "short")]
    operation: String,
    #[serde(default, deserialize_with = "short")]
    subresource: String,
    #[serde(default, deserialize_with = "short")]
    time: String,
    #[serde(default)]
    fields_v1: Fields,
}

#[derive(Debug, Default, Deserialize)]
struct Fields {
    #[serde(default, rename = "f:metadata")]
    metadata: MetadataFields,
}

#[derive(Debug, Default, Deserialize)]
struct MetadataFields {
    /// Whether the client owns an annotation that is a chaos key.
    #[serde(default, rename = "f:annotations", deserialize_with = "any_is_chaos_key")]
    owns_consent: bool,
}

/// Returns whether one of the keys is a chaos key. The function keeps none of the keys, because
/// there may be thousands.
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
            // An entry that can't be read counts as owner of nothing.
            fields_v1: serde_json::from_value(fields).unwrap_or_default(),
        }
    }
}

/// Returns every entry that owns a chaos key, such as `kubectl-annotate Update
/// 2026-11-23T12:00:00Z`, joined with `, `. The text is empty if there is no such entry.
#[must_use]
pub fn origin(entries: impl IntoIterator<Item = ManagedFieldsEntry>) -> String {
    entries.into_iter().map(Entry::from).fold(String::new(), |mut origin, entry| {
        entry.tell(&mut origin);
        origin
    })
}

/// Reads the `managedFields` of a review as their [`origin`]. The function reads entry by entry and
/// keeps none of them, because a review may contain millions.
///
/// # Errors
/// Returns an error if there are more entries, or longer names, than an object can have. A part of
/// the entries would not be enough to tell two requests apart.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("managedFields")
        }
        fn visit_unit<E>(self) -> Result<String, E> {
            Ok(String::new())
        }
        fn visit_seq<S: SeqAccess<'de>>(self, mut entries: S) -> Result<String, S::Error> {
            let (mut origin, mut count) = (String::new(), 0);
            while let Some(entry) = entries.next_element::<Entry>()? {
                count += 1;
                entry.tell(&mut origin);
                if count > MOST_ENTRIES || origin.len() > LONGEST {
                    return Err(S::Error::custom("more managedFields than the webhook reads"));
                }
            }
            Ok(origin)
        }
    }
    deserializer.deserialize_any(Entries)
}

impl Entry {
    fn tell(&self, origin: &mut String) {
        if !self.fields_v1.metadata.owns_consent {
            return;
        }
        let Self { manager, operation, subresource, time, .. } = self;
        let parts = [manager, operation, subresource, time].map(String::as_str);
        let mut separator = if origin.is_empty() { "" } else { ", " };
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            origin.push_str(separator);
            origin.push_str(part);
            separator = " ";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry(key: &str) -> Value {
        json!({"manager": "kubectl-annotate", "operation": "Update", "time": "2026-11-23T12:00:00Z",
            "fieldsV1": {"f:metadata": {"f:annotations": {key: {}, "f:team": {}}}}})
    }

    #[test]
    fn the_owners_of_chaos_keys_are_named() {
        let fields = json!([
            {"manager": "kubectl-create", "operation": "Update", "time": "2026-11-23T11:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:team": {}}, "f:labels": {"f:a": {}}}}},
            entry("f:chaos"),
            {"manager": "argocd", "operation": "Apply", "subresource": "status",
                "fieldsV1": {"f:metadata": {"f:annotations": {"f:purechaos.dev/limit": {}}}}},
            entry("f:purechaos.dev/halt"),
            {"manager": "odd", "fieldsV1": {}}
        ]);
        let expected = "kubectl-annotate Update 2026-11-23T12:00:00Z, argocd Apply status";
        assert_eq!(read(&fields).unwrap(), expected);
        // The client's typed entries give the same origin.
        let typed: Vec<ManagedFieldsEntry> = serde_json::from_value(fields).unwrap();
        assert_eq!(origin(typed), expected);
        assert_eq!(read(&json!(null)).unwrap() + &origin([]), "");
    }

    #[test]
    fn more_than_any_object_has_is_refused() {
        assert_eq!(read(&json!(vec![json!({}); MOST_ENTRIES])).unwrap(), "");
        assert!(read(&json!(vec![json!({}); MOST_ENTRIES + 1])).is_err());
        let owners = |count| json!(vec![entry("f:chaos"); count]);
        assert_eq!(read(&owners(50)).unwrap().matches("kubectl-annotate").count(), 50);
        assert!(read(&owners(200)).is_err(), "what is cut off would not be told from another request's");
        assert!(read(&json!([{"manager": "x".repeat(100_000)}])).is_err());
    }
}

//! Calls that change something: they make, replace, patch and delete objects.

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::{Value, json};

use super::{Api, reply, status};

pub(super) fn replace(api: &Api, path: &str, object: Value) -> Response {
    let Some(stored) = api.get(path) else {
        return status(404, "not found", Value::Null);
    };
    if !is_as_wanted(&stored, &object["metadata"]) {
        return status(409, "the object has been modified", Value::Null);
    }
    store(api, path, object)
}

/// Stores what a call made, and answers with it.
fn store(api: &Api, path: &str, object: Value) -> Response {
    api.put(path, object);
    api.get(path).map_or_else(|| status(500, "gone again", Value::Null), reply)
}

pub(super) fn create(api: &Api, collection: &str, mut object: Value) -> Response {
    let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    if api.get(&path).is_some() {
        return status(409, "it exists", Value::Null);
    }
    object["metadata"]["uid"] = json!(format!("uid-{}", api.world.lock().unwrap().version));
    object["metadata"]["generation"] = json!(1);
    if let Some((_, rest)) = collection.split_once("/namespaces/") {
        object["metadata"]["namespace"] = json!(rest.split('/').next());
    }
    store(api, &path, object)
}

pub(super) fn patch(api: &Api, path: &str, patch: &Value, is_strategic: bool) -> Response {
    let Some(mut object) = api.get(path) else {
        return status(404, "not found", Value::Null);
    };
    if !is_as_wanted(&object, &patch["metadata"]) {
        return status(409, "the object has been modified", Value::Null);
    }
    let role = object["roleRef"].clone();
    merge(&mut object, patch, is_strategic);
    if object["roleRef"] != role {
        return status(422, "roleRef: cannot change it", Value::Null);
    }
    store(api, path, object)
}

/// Whether an object has the UID and the version that a call names, if it names them.
fn is_as_wanted(object: &Value, wanted: &Value) -> bool {
    ["uid", "resourceVersion"]
        .iter()
        .all(|key| wanted[key].is_null() || wanted[key] == object["metadata"][key])
}

/// A merge patch. A strategic one also changes lists of named objects one by one, by their names.
fn merge(into: &mut Value, patch: &Value, is_strategic: bool) {
    match (into, patch) {
        (Value::Array(into), Value::Array(patch)) if is_strategic => {
            for part in patch {
                match into.iter_mut().find(|old| old["name"] == part["name"]) {
                    Some(old) => merge(old, part, true),
                    None => into.push(part.clone()),
                }
            }
        }
        (into, Value::Object(patch)) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in patch {
                merge(&mut into[key], value, is_strategic);
            }
            into.as_object_mut().unwrap().retain(|key, _| patch.get(key) != Some(&Value::Null));
        }
        (into, value) => *into = value.clone(),
    }
}

/// Deletes or evicts an object. A Pod only gets a time of its end.
pub(super) fn kill(api: &Api, path: &str, options: &Value, query: &BTreeMap<String, String>) -> Response {
    let Some(object) = api.get(path) else {
        return status(404, "not found", Value::Null);
    };
    if !is_as_wanted(&object, &options["preconditions"]) {
        return status(409, "precondition failed", Value::Null);
    }
    let is_dry_run = query.contains_key("dryRun") || !options["dryRun"].is_null();
    if !is_dry_run && path.contains("/pods/") {
        api.change(path, |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-11-23T13:00:00Z"));
    } else if !is_dry_run {
        api.remove(path);
    }
    reply(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

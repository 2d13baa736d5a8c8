//! Calls that change something: they make, replace and patch objects, and kill Pods.

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::{Value, json};

use super::{Api, reply, status};

pub(super) fn replace(api: &Api, path: &str, object: Value) -> Response {
    let Some(stored) = api.get(path) else {
        return status(404, "not found", Value::Null);
    };
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    if !version(&object).is_null() && version(&object) != version(&stored) {
        return status(409, "the object has been modified", Value::Null);
    }
    api.put(path, object);
    api.get(path).map_or_else(|| status(500, "gone again", Value::Null), reply)
}

/// Creates an object if the fake API has to store it. It only notes all other posts.
pub(super) fn create(api: &Api, collection: &str, mut object: Value) -> Response {
    let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    if api.get(&path).is_some() {
        return status(409, "it exists", Value::Null);
    }
    object["metadata"]["uid"] = json!(path);
    api.put(&path, object);
    api.get(&path).map_or_else(|| status(500, "gone again", Value::Null), reply)
}

pub(super) fn patch(api: &Api, path: &str, patch: &Value) -> Response {
    let Some(mut object) = api.get(path) else {
        return status(404, "not found", Value::Null);
    };
    let wanted = &patch["metadata"]["resourceVersion"];
    if !wanted.is_null() && *wanted != object["metadata"]["resourceVersion"] {
        return status(409, "the object has been modified", Value::Null);
    }
    merge(&mut object, patch);
    api.put(path, object);
    reply(api.get(path).unwrap())
}

fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (into, patch) else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => {
                into.remove(key);
            }
            Value::Object(_) => merge(into.entry(key.clone()).or_insert_with(|| json!({})), value),
            other => {
                into.insert(key.clone(), other.clone());
            }
        }
    }
}

pub(super) fn kill(api: &Api, path: &str, options: &Value, query: &BTreeMap<String, String>) -> Response {
    let Some(pod) = api.get(path) else {
        return status(404, "not found", Value::Null);
    };
    for key in ["uid", "resourceVersion"] {
        let wanted = &options["preconditions"][key];
        if !wanted.is_null() && *wanted != pod["metadata"][key] {
            return status(409, "precondition failed", Value::Null);
        }
    }
    let is_dry_run = query.contains_key("dryRun") || !options["dryRun"].is_null();
    if !is_dry_run {
        api.change(path, |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-11-23T13:00:00Z"));
    }
    reply(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

//! Every way to write the annotations of a Namespace.

use serde_json::{Map, Value, json};

use crate::cluster::{Output, kubectl, kubectl_with, object};

/// The chaos keys and values that a namespace should have. It should have no others.
pub type Wanted<'a> = &'a [(&'a str, &'a str)];

/// A way to give an existing namespace these chaos keys, with the way's name.
pub type Way = (&'static str, fn(&str, Wanted) -> Output);

/// All ways to change an existing namespace. Each way can also remove what it has set.
pub const CHANGES: [Way; 12] = [
    ("annotate", annotate),
    ("apply", |name, wanted| kubectl_with(&["apply"], &namespace(name, wanted))),
    ("apply-server-side", |name, wanted| {
        kubectl_with(&["apply", "--server-side", "--force-conflicts"], &namespace(name, wanted))
    }),
    ("replace", |name, wanted| kubectl_with(&["replace"], &namespace(name, wanted))),
    ("put", |name, wanted| put(name, "", wanted)),
    ("put-status", |name, wanted| put(name, "/status", wanted)),
    ("put-finalize", |name, wanted| put(name, "/finalize", wanted)),
    ("patch-merge", |name, wanted| patch(name, &["--type=merge"], &changes(name, wanted))),
    ("patch-strategic", |name, wanted| patch(name, &["--type=strategic"], &changes(name, wanted))),
    ("patch-json", |name, wanted| {
        let all = json!([{"op": "add", "path": "/metadata/annotations", "value": annotations(name, wanted)}]);
        patch(name, &["--type=json"], &all)
    }),
    ("patch-status", |name, wanted| {
        patch(name, &["--type=merge", "--subresource=status"], &changes(name, wanted))
    }),
    ("patch-status-json", |name, wanted| {
        let all = json!([{"op": "add", "path": "/metadata/annotations", "value": annotations(name, wanted)}]);
        patch(name, &["--type=json", "--subresource=status"], &all)
    }),
];

/// All ways to make a namespace that has these chaos keys from the start.
pub const CREATIONS: [Way; 6] = [
    ("create", |name, wanted| kubectl_with(&["create"], &namespace(name, wanted))),
    ("create-save-config", |name, wanted| {
        kubectl_with(&["create", "--save-config"], &namespace(name, wanted))
    }),
    ("create-raw", |name, wanted| {
        kubectl_with(&["create", "--raw", "/api/v1/namespaces"], &namespace(name, wanted))
    }),
    ("create-apply", |name, wanted| kubectl_with(&["apply"], &namespace(name, wanted))),
    ("create-apply-server-side", |name, wanted| {
        kubectl_with(&["apply", "--server-side"], &namespace(name, wanted))
    }),
    // This way deletes the existing namespace and creates a new one.
    ("replace-force", |name, wanted| {
        kubectl(&["create", "namespace", name]).succeeds();
        kubectl_with(&["replace", "--force", "--timeout=60s"], &namespace(name, wanted))
    }),
];

/// The chaos keys that a namespace has.
pub fn chaos_keys(name: &str) -> Map<String, Value> {
    let mut annotations = object(&["namespace", name])["metadata"]["annotations"].take();
    let mut keys = annotations.as_object_mut().map(std::mem::take).unwrap_or_default();
    keys.retain(|key, _| is_ours(key));
    keys
}

/// Compares without case, so that a test also sees keys that only look like ours.
fn is_ours(key: &str) -> bool {
    let key = key.to_lowercase();
    key == "chaos" || key.starts_with("purechaos.dev/")
}

fn annotate(name: &str, wanted: Wanted) -> Output {
    let mut words: Vec<String> = wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let gone = chaos_keys(name).into_iter().filter(|(key, _)| wanted.iter().all(|(wanted, _)| wanted != key));
    words.extend(gone.map(|(key, _)| format!("{key}-")));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    kubectl(&[&["annotate", "--overwrite", "namespace", name], &words[..]].concat())
}

fn namespace(name: &str, wanted: Wanted) -> Value {
    let annotations: Map<String, Value> = pairs(wanted);
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}})
}

fn put(name: &str, subresource: &str, wanted: Wanted) -> Output {
    let mut object = object(&["namespace", name]);
    object["metadata"]["annotations"] = annotations(name, wanted);
    kubectl_with(&["replace", "--raw", &format!("/api/v1/namespaces/{name}{subresource}")], &object)
}

fn patch(name: &str, flags: &[&str], patch: &Value) -> Output {
    kubectl(&[&["patch", "namespace", name], flags, &["-p", &patch.to_string()]].concat())
}

/// All annotations that the namespace should have.
fn annotations(name: &str, wanted: Wanted) -> Value {
    let mut all = object(&["namespace", name])["metadata"]["annotations"].take();
    let mut all = all.as_object_mut().map(std::mem::take).unwrap_or_default();
    all.retain(|key, _| !is_ours(key));
    all.extend(pairs(wanted));
    all.into()
}

/// A merge patch. It names removed keys with null.
fn changes(name: &str, wanted: Wanted) -> Value {
    let mut changes: Map<String, Value> =
        chaos_keys(name).into_iter().map(|(key, _)| (key, Value::Null)).collect();
    changes.extend(pairs(wanted));
    json!({"metadata": {"annotations": changes}})
}

fn pairs(wanted: Wanted) -> Map<String, Value> {
    wanted.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
}

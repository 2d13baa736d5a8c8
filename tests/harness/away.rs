//! Objects of the whole cluster that a test takes away or changes, and that come back whatever happens.

use serde_json::Value;

use crate::cluster::{Output, eventually, kubectl, kubectl_with, object};

/// Fields that the API server fills in, and that an object written again must not have.
const FILLED_IN: [&str; 5] = ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"];

/// An object that is away, or other than it should be, until this is dropped.
#[must_use]
pub struct Away {
    kind: String,
    name: String,
    /// As it was; null if there was none, and then there is none afterwards.
    saved: Value,
}

impl Away {
    /// Deletes an object.
    pub fn taken(kind: &str, name: &str) -> Self {
        let away = Self::remembering(kind, name);
        assert_ne!(away.saved, Value::Null, "{kind} {name} is not there");
        kubectl(&["delete", kind, name]).succeeds();
        away
    }

    /// Changes an object.
    pub fn changed(kind: &str, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let away = Self::remembering(kind, name);
        let mut object = away.saved.clone();
        change(&mut object);
        write("replace", &object).succeeds();
        away
    }

    /// Makes an object that is not there otherwise.
    pub fn added(object: &Value) -> Self {
        let kind = text(object, "/kind").to_lowercase();
        let away = Self { kind, name: text(object, "/metadata/name"), saved: Value::Null };
        kubectl_with(&["create"], object).succeeds();
        away
    }

    fn remembering(kind: &str, name: &str) -> Self {
        let mut saved = object(&[kind, name]);
        if let Some(metadata) = saved.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| !FILLED_IN.contains(&field.as_str()));
        }
        Self { kind: kind.to_owned(), name: name.to_owned(), saved }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let output = if self.saved == Value::Null {
            kubectl(&["delete", &self.kind, &self.name, "--ignore-not-found"])
        } else {
            let is_there = kubectl(&["get", &self.kind, &self.name]).ok;
            write(if is_there { "replace" } else { "create" }, &self.saved)
        };
        if !output.ok {
            // Not a panic: it would hide the one that is under way.
            eprintln!("{} {} did not come back: {}", self.kind, self.name, output.stderr);
        }
    }
}

/// The annotation in which `kubectl apply` keeps what it applied.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Creates or replaces an object with its annotations as given: kubectl would note all of it, what others have filled in
/// too, as last applied, and `kubectl apply` would then take that back.
fn write(how: &str, object: &Value) -> Output {
    let applied = object["metadata"]["annotations"].get(APPLIED);
    let mut bare = object.clone();
    if let Some(annotations) = bare["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(APPLIED);
    }
    let output = kubectl_with(&[how], &bare);
    if !output.ok || applied.is_none() {
        return output;
    }
    let patch = serde_json::json!({"metadata": {"annotations": {APPLIED: applied}}}).to_string();
    kubectl(&["patch", &text(object, "/kind"), &text(object, "/metadata/name"), "--type=merge", "-p", &patch])
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned()
}

/// Something that can't go, and its namespace neither, until this is dropped.
#[must_use]
pub struct Held(String, String);

impl Held {
    /// Puts a finalizer on it; `what` is such as `pod/a`.
    pub fn new(namespace: &str, what: &str) -> Self {
        let held = Self(namespace.to_owned(), what.to_owned());
        held.patch(&["purechaos.dev/test"]).succeeds();
        held
    }

    fn patch(&self, finalizers: &[&str]) -> Output {
        let patch = serde_json::json!({"metadata": {"finalizers": finalizers}}).to_string();
        kubectl(&["-n", &self.0, "patch", &self.1, "--type=merge", "-p", &patch])
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        eprint!("{}", self.patch(&[]).stderr);
    }
}

/// The configuration of the webhook is away until this is dropped.
pub fn without_webhook_configuration() -> Away {
    let away = Away::taken("validatingwebhookconfiguration", "pure-chaos");
    eventually("the end of the webhook's configuration", || {
        kubectl(&["annotate", "namespace", "kube-public", "chaos=yes", "--dry-run=server"]).ok.then_some(())
    });
    away
}

/// The webhook's Pods are away until this is dropped; then they are there again, or it was waited for them in vain.
#[must_use]
pub struct WithoutWebhook(());

impl WithoutWebhook {
    /// Ends the webhook's Pods, and waits until they are gone.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        scale(0);
        let pods = ["pod", "-l", "app.kubernetes.io/component=webhook", "--for=delete", "--timeout=60s"];
        kubectl(&[&["-n", "pure-chaos", "wait"], &pods[..]].concat()).succeeds();
        Self(())
    }
}

impl Drop for WithoutWebhook {
    fn drop(&mut self) {
        scale(2);
        let rollout = ["rollout", "status", "deployment", "webhook", "--timeout=60s"];
        eprint!("{}", kubectl(&[&["-n", "pure-chaos"], &rollout[..]].concat()).stderr);
    }
}

fn scale(replicas: u32) {
    let replicas = format!("--replicas={replicas}");
    let output = kubectl(&["-n", "pure-chaos", "scale", "deployment", "webhook", &replicas]);
    eprint!("{}", output.stderr);
}

/// Waits until the API server asks the webhook about opt-ins again, and the webhook answers.
pub fn until_opt_ins_are_reviewed() {
    eventually("the webhook to be asked again", || {
        let asked = kubectl(&["annotate", "namespace", "kube-public", "chaos=yes", "--dry-run=server"]);
        asked.stderr.contains("\"opt-in.purechaos.dev\" denied the request").then_some(())
    });
}

/// Arguments of `kubectl` that make it act as an account of `pure-chaos`.
pub fn as_account(name: &str) -> [String; 4] {
    [
        format!("--as=system:serviceaccount:pure-chaos:{name}"),
        "--as-group=system:serviceaccounts".to_owned(),
        "--as-group=system:serviceaccounts:pure-chaos".to_owned(),
        "--as-group=system:authenticated".to_owned(),
    ]
}

/// Gives an account of `pure-chaos` every right until this is dropped, so that not RBAC is what refuses.
pub fn all_rights(account: &str) -> Away {
    let name = format!("test-all-rights-{account}");
    let away = Away::added(&serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "pure-chaos"}]
    }));
    eventually("the rights", || run_as(account, &["auth", "can-i", "*", "*"]).ok.then_some(()));
    away
}

/// Runs `kubectl` as an account of `pure-chaos`.
pub fn run_as(account: &str, arguments: &[&str]) -> Output {
    let identity = as_account(account);
    let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
    kubectl(&[&identity, arguments].concat())
}

/// Runs `kubectl … -f -` with this object as an account of `pure-chaos`.
pub fn write_as(account: &str, arguments: &[&str], object: &Value) -> Output {
    let identity = as_account(account);
    let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
    kubectl_with(&[&identity, arguments].concat(), object)
}

//! Objects of the whole cluster that a test removes or changes. They come back whatever happens.

use serde_json::Value;

use crate::cluster::{Output, eventually, kubectl, kubectl_with, object};

/// Fields that the API server fills in. An object that is written again must not have them.
const FILLED_IN: [&str; 5] = ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"];

/// An object that is removed or changed until this value is dropped.
#[must_use]
pub struct Away {
    kind: String,
    name: String,
    /// The object as it was. Null if there was none; then there is none afterwards either.
    saved: Value,
}

impl Away {
    /// Deletes the object.
    pub fn taken(kind: &str, name: &str) -> Self {
        let away = Self::remembering(kind, name);
        assert_ne!(away.saved, Value::Null, "{kind} {name} is not there");
        kubectl(&["delete", kind, name]).succeeds();
        away
    }

    /// Changes the object.
    pub fn changed(kind: &str, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let away = Self::remembering(kind, name);
        let mut object = away.saved.clone();
        change(&mut object);
        write("replace", &object).succeeds();
        away
    }

    /// Makes an object that doesn't exist otherwise.
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
            // This prints an error and doesn't panic, because a panic would hide the one that is
            // under way.
            eprintln!("{} {} did not come back: {}", self.kind, self.name, output.stderr);
        }
    }
}

/// The annotation in which `kubectl apply` keeps what it applied.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Creates or replaces an object with exactly these annotations. kubectl would note the whole
/// object as last applied, including what others have filled in, and a later `kubectl apply` would
/// then remove that.
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

/// An object that can't be deleted until this value is dropped. Its namespace can't be deleted
/// either.
#[must_use]
pub struct Held(String, String);

impl Held {
    /// Puts a finalizer on the object; `what` is such as `pod/a`.
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

/// Removes the webhook configuration until the result is dropped.
pub fn without_webhook_configuration() -> Away {
    let away = Away::taken("validatingwebhookconfiguration", "pure-chaos");
    eventually("the end of the webhook's configuration", || {
        kubectl(&["annotate", "namespace", "kube-public", "chaos=yes", "--dry-run=server"]).ok.then_some(())
    });
    away
}

/// The webhook's Pods are gone until this value is dropped. The drop waits until they are back, or
/// until the wait times out.
#[must_use]
pub struct WithoutWebhook(());

impl WithoutWebhook {
    /// Deletes the webhook's Pods, and waits until they are gone.
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
    // After its configuration came back, the webhook admits nothing for some seconds, except in dry
    // runs.
    let name = format!("reviewed-{}", std::process::id());
    eventually("an opt-in to be admitted", || {
        kubectl(&["create", "namespace", &name]);
        kubectl(&["annotate", "namespace", &name, "chaos=yes", "purechaos.dev/schedule=every 12h"])
            .ok
            .then_some(())
    });
    kubectl(&["delete", "namespace", &name, "--wait=false"]);
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

/// Gives an account of `pure-chaos` every right until the result is dropped, so that RBAC refuses
/// nothing.
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

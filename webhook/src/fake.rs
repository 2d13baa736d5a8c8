//! The fake API as the webhook's tests use it, and the parts of a webhook around it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use fake_api::{Answer, Api};
use serde_json::{Value, json};

/// The only user who may not delete Pods.
pub const POWERLESS: &str = "powerless";

/// Path of the webhook configuration.
pub const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/pure-chaos";

/// Path of a namespace.
pub fn namespace(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}

/// Path of the record of a namespace.
pub fn record(namespace: &str) -> String {
    format!("/apis/purechaos.dev/v1alpha1/namespaces/{namespace}/optins/chaos")
}

/// Path of the agent's RoleBinding in a namespace.
pub fn binding(namespace: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/pure-chaos-agent")
}

/// The fake API with namespace `pure-chaos`.
#[derive(Clone)]
pub struct Fake(Api);

impl Deref for Fake {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}

impl Fake {
    pub fn new() -> Self {
        let fake = Self(Api::default());
        fake.intercept(|call| {
            let is_refused =
                call.body["kind"] == "SubjectAccessReview" && call.body["spec"]["user"] == POWERLESS;
            is_refused.then(|| {
                let mut review = call.body.clone();
                review["status"] = json!({"allowed": false});
                Answer::Object(review)
            })
        });
        fake.namespace("pure-chaos", json!({}));
        fake
    }

    /// Sets the annotations of a namespace, which is created if necessary.
    pub fn namespace(&self, name: &str, annotations: Value) {
        let metadata =
            json!({"name": name, "uid": format!("uid-{name}"), "creationTimestamp": "2026-11-23T12:00:00Z"});
        let mut object = self.get(&namespace(name)).unwrap_or_else(|| json!({"metadata": metadata}));
        object["metadata"]["annotations"] = annotations;
        self.put(&namespace(name), object);
    }

    pub fn record(&self, namespace: &str) -> Option<Value> {
        self.get(&record(namespace))
    }

    pub fn verdict(&self, namespace: &str) -> String {
        self.record(namespace)
            .map_or_else(|| "none".to_owned(), |r| r["spec"]["verdict"].as_str().unwrap_or("?").to_owned())
    }

    pub fn binding(&self, namespace: &str) -> Option<Value> {
        self.get(&binding(namespace))
    }

    /// Returns the notes of the Events written in a namespace, in order.
    pub fn notes_in(&self, namespace: &str) -> Vec<String> {
        self.of_events(namespace, "note")
    }

    /// Returns the reasons of the Events written in a namespace, in order.
    pub fn events_in(&self, namespace: &str) -> Vec<String> {
        self.of_events(namespace, "reason")
    }

    fn of_events(&self, namespace: &str, field: &str) -> Vec<String> {
        let events = self.stored_events().into_iter();
        let here = events.filter(|event| event["metadata"]["namespace"] == namespace);
        here.map(|event| event[field].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the number of requests about single objects since the last call. Lists and watches
    /// do not count, because they also happen without a change.
    pub fn reads(&self) -> usize {
        self.take_calls().iter().filter(|call| call.path.contains("/namespaces/")).count()
    }

    /// Returns the requests that changed something since the last call, as `METHOD
    /// last/part/of/path`.
    pub fn writes(&self) -> Vec<String> {
        let is_write = |verb: &str| !matches!(verb, "GET" | "LIST" | "WATCH");
        let calls = self.take_calls().into_iter();
        let writes = calls.filter(|call| is_write(&call.verb) && !call.path.ends_with("/events"));
        let end = |path: &str| path.split('/').skip(4).collect::<Vec<_>>().join("/");
        writes.map(|call| format!("{} {}", call.verb, end(&call.path))).collect()
    }
}

/// Returns a webhook configuration like the one in `manifests/base/webhook-configuration.yaml`,
/// with simpler match conditions.
pub fn configuration() -> Value {
    let rule = json!({"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "scope": "Cluster",
        "resources": ["namespaces", "namespaces/status", "namespaces/finalize"]});
    let webhook = |name: &str, rule: Value| {
        json!({"name": name, "sideEffects": "NoneOnDryRun", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "rules": [rule], "matchConditions": [{"name": "consent-changes", "expression": "true"}],
            "clientConfig": {"service": {"name": "webhook", "namespace": "pure-chaos"}}})
    };
    json!({"metadata": {"name": "pure-chaos"}, "webhooks": [
        webhook("opt-in.purechaos.dev", rule.clone()), webhook("kill.purechaos.dev", rule)]})
}

/// Returns the keys of the secret path, which are the same for all replicas in tests.
pub fn keys() -> certs::path::segment::Keys {
    certs::path::segment::Keys::of([1; 32], [2; 32])
}

/// Returns the path that `certs` would have injected at this clock's time.
pub fn path(route: &str, clock: &dyn runtime::clock::Clock) -> String {
    keys().path(route, clock.wall())
}

/// Returns a replica that differs from others in tests only by its seed.
pub fn replica_of(seed: u64) -> crate::run::Replica {
    let ring = Arc::new(certs::api::keyring::Keyring::default());
    ring.set(keys());
    crate::run::Replica {
        seed,
        instance: "pod".to_owned(),
        accounts: vec!["agent".to_owned()],
        keys: ring,
        configuration: "pure-chaos".to_owned(),
    }
}

/// Runs a test in virtual time, with a deadline in real time. Without the deadline, a loop that
/// never sleeps would run forever.
pub fn virtual_time(test: impl Future<Output = ()> + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test);
        done.send(()).unwrap();
    });
    if is_done.recv_timeout(Duration::from_secs(60)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("the test did not end within a minute of real time");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

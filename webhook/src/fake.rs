//! An API server in this process, for tests. The fake has namespaces, records, RoleBindings and
//! Events, and supports resource versions, preconditions, merge patches and watches that time out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The only user who may not delete Pods.
pub const POWERLESS: &str = "powerless";

type Key = (String, String, String);
/// Sees each request before the fake serves it. A hook may change the store, and may answer the
/// request. Status 0 means no answer at all.
type Hook = Box<dyn FnMut(&Method, &str, &mut Store) -> Option<(u16, Value)> + Send>;

#[derive(Clone)]
pub struct Fake {
    inner: Arc<Mutex<Inner>>,
    version: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Inner {
    store: Store,
    hook: Option<Hook>,
    requests: Vec<(Method, String)>,
}

#[derive(Default)]
pub struct Store {
    version: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<(u64, String, &'static str, Value)>,
}

impl Store {
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.objects.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    pub fn put(&mut self, kind: &str, namespace: &str, name: &str, mut object: Value) -> Value {
        self.version += 1;
        let before = self.get(kind, namespace, name);
        let uid = before
            .as_ref()
            .map_or_else(|| json!(format!("uid-{}", self.version)), |old| old["metadata"]["uid"].clone());
        let generation = match &before {
            Some(old) if old["spec"] == object["spec"] => old["metadata"]["generation"].clone(),
            Some(old) => json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1),
            None => json!(1),
        };
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("name".to_owned(), json!(name));
        if kind != "namespaces" {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        metadata.entry("uid").or_insert(uid);
        metadata.entry("creationTimestamp").or_insert(json!("2026-11-23T12:00:00Z"));
        metadata.insert("generation".to_owned(), generation);
        metadata.insert("resourceVersion".to_owned(), json!(self.version.to_string()));
        let word = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.history.push((self.version, kind.to_owned(), word, object.clone()));
        self.objects.insert((kind.to_owned(), namespace.to_owned(), name.to_owned()), object.clone());
        object
    }

    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let mut object = self.objects.remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push((self.version, kind.to_owned(), "DELETED", object.clone()));
        Some(object)
    }
}

impl Fake {
    pub fn new() -> Self {
        let fake = Self { inner: Arc::default(), version: Arc::new(watch::Sender::new(0)) };
        fake.namespace("pure-chaos", json!({}));
        fake
    }

    pub fn client(&self) -> kube::Client {
        kube::Client::new(Router::new().fallback(serve).with_state(self.clone()), "default")
    }

    /// Reads or changes what is stored.
    pub fn with<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let (value, version) = {
            let mut inner = self.inner.lock().unwrap();
            let value = change(&mut inner.store);
            (value, inner.store.version)
        };
        self.version.send_replace(version);
        value
    }

    pub fn hook(&self, hook: impl FnMut(&Method, &str, &mut Store) -> Option<(u16, Value)> + Send + 'static) {
        self.inner.lock().unwrap().hook = Some(Box::new(hook));
    }

    pub fn no_hook(&self) {
        self.inner.lock().unwrap().hook = None;
    }

    /// Sets the annotations of a namespace, which is created if necessary.
    pub fn namespace(&self, name: &str, annotations: Value) {
        self.with(|store| {
            let mut object = store.get("namespaces", "", name).unwrap_or(json!({"metadata": {}}));
            object["metadata"]["annotations"] = annotations;
            store.put("namespaces", "", name, object);
        });
    }

    pub fn record(&self, namespace: &str) -> Option<Value> {
        self.with(|store| store.get("optins", namespace, "chaos"))
    }

    pub fn verdict(&self, namespace: &str) -> String {
        self.record(namespace)
            .map_or_else(|| "none".to_owned(), |r| r["spec"]["verdict"].as_str().unwrap_or("?").to_owned())
    }

    pub fn binding(&self, namespace: &str) -> Option<Value> {
        self.with(|store| store.get("rolebindings", namespace, "pure-chaos-agent"))
    }

    /// Returns the notes of the Events written in a namespace, in order.
    pub fn notes(&self, namespace: &str) -> Vec<String> {
        self.of_events(namespace, "note")
    }

    /// Returns the reasons of the Events written in a namespace, in order.
    pub fn events(&self, namespace: &str) -> Vec<String> {
        self.of_events(namespace, "reason")
    }

    fn of_events(&self, namespace: &str, field: &str) -> Vec<String> {
        self.with(|store| {
            let all = store.history.iter().filter(|(_, kind, ..)| kind == "events");
            let here = all.filter(|(.., event)| event["metadata"]["namespace"] == namespace);
            here.map(|(.., event)| event[field].as_str().unwrap().to_owned()).collect()
        })
    }

    /// Returns the number of requests about single objects since the last call. Lists and watches
    /// do not count, because they also happen without a change.
    pub fn reads(&self) -> usize {
        let requests = std::mem::take(&mut self.inner.lock().unwrap().requests);
        requests.iter().filter(|(_, path)| path.contains("/namespaces/")).count()
    }

    /// Returns the requests that changed something since the last call, as `METHOD
    /// last/part/of/path`.
    pub fn writes(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.inner.lock().unwrap().requests);
        let writes = requests
            .into_iter()
            .filter(|(method, path)| *method != Method::GET && !path.ends_with("/events"));
        writes
            .map(|(method, path)| {
                format!("{method} {}", path.split('/').skip(4).collect::<Vec<_>>().join("/"))
            })
            .collect()
    }
}

pub fn refusal(code: u16, reason: &str, cause: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": reason, "metadata": {}, "details": {"causes": [{"reason": cause, "message": ""}]}});
    (code, status)
}

fn reply((code, value): (u16, Value)) -> Response {
    (StatusCode::from_u16(code).unwrap(), [("content-type", "application/json")], value.to_string())
        .into_response()
}

async fn serve(State(fake): State<Fake>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query: BTreeMap<String, String> = parts
        .uri
        .query()
        .unwrap_or("")
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let body: Bytes = to_bytes(body, 1 << 24).await.unwrap();
    let answered = {
        let mut inner = fake.inner.lock().unwrap();
        inner.requests.push((parts.method.clone(), path.clone()));
        let Inner { store, hook, .. } = &mut *inner;
        hook.as_mut().and_then(|hook| hook(&parts.method, &path, store))
    };
    fake.with(|_| ());
    if let Some(answer) = answered {
        if answer.0 == 0 {
            // Give no answer.
            std::future::pending::<()>().await;
        }
        return reply(answer);
    }
    // Paths begin with /api/v1/… or /apis/GROUP/VERSION/…, and go on with namespaces/NS/KIND/NAME,
    // KIND/NAME or KIND.
    let all: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let rest = &all[if all[0] == "api" { 2 } else { 3 }..];
    let (kind, namespace, name) = match rest {
        ["namespaces", name] => ("namespaces", "", Some(*name)),
        [kind] => (*kind, "", None),
        ["namespaces", namespace, kind] => (*kind, *namespace, None),
        ["namespaces", namespace, kind, name] => (*kind, *namespace, Some(*name)),
        _ => return reply(refusal(404, "NotFound", "")),
    };
    if parts.method == Method::GET && name.is_none() {
        return if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
            watched(fake, kind.to_owned(), &query)
        } else {
            reply((200, fake.with(|store| listed(store, kind))))
        };
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if kind == "subjectaccessreviews" {
        // Nothing is stored. Every user except one has the right.
        let mut review = body;
        review["status"] = json!({"allowed": review["spec"]["user"] != POWERLESS});
        return reply((201, review));
    }
    reply(fake.with(|store| served(store, &parts.method, kind, namespace, name, body)))
}

fn listed(store: &Store, kind: &str) -> Value {
    let items: Vec<Value> =
        store.objects.iter().filter(|(key, _)| key.0 == kind).map(|(_, object)| object.clone()).collect();
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": store.version.to_string()}, "items": items})
}

fn served(
    store: &mut Store,
    method: &Method,
    kind: &str,
    namespace: &str,
    name: Option<&str>,
    body: Value,
) -> (u16, Value) {
    let Some(name) = name else {
        let number = store.version;
        let name =
            body["metadata"]["name"].as_str().map_or_else(|| format!("generated-{number}"), str::to_owned);
        if store.get(kind, namespace, &name).is_some() {
            return refusal(409, "AlreadyExists", "");
        }
        return (201, store.put(kind, namespace, &name, body));
    };
    let Some(object) = store.get(kind, namespace, name) else {
        return refusal(404, "NotFound", "");
    };
    let differs =
        |wanted: &Value, field: &str| !wanted[field].is_null() && wanted[field] != object["metadata"][field];
    match *method {
        Method::GET => (200, object),
        Method::PATCH => {
            if ["uid", "resourceVersion"].iter().any(|field| differs(&body["metadata"], field)) {
                return refusal(409, "Conflict", "");
            }
            let mut changed = object.clone();
            merge(&mut changed, &body);
            if kind == "rolebindings" && changed["roleRef"] != object["roleRef"] {
                return refusal(422, "Invalid", "");
            }
            (200, store.put(kind, namespace, name, changed))
        }
        Method::DELETE => {
            if ["uid", "resourceVersion"].iter().any(|field| differs(&body["preconditions"], field)) {
                return refusal(409, "Conflict", "");
            }
            store.remove(kind, namespace, name);
            (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}))
        }
        _ => refusal(405, "MethodNotAllowed", ""),
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn watched(fake: Fake, kind: String, query: &BTreeMap<String, String>) -> Response {
    let from: u64 = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let seconds: u64 = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(60);
    let changes = fake.version.subscribe();
    let end = Box::pin(tokio::time::sleep(Duration::from_secs(seconds)));
    let lines = stream::unfold(
        (fake, kind, from, changes, end),
        |(fake, kind, from, mut changes, mut end)| async move {
            loop {
                changes.borrow_and_update();
                let next = fake.with_quietly(|store| {
                    store.history.iter().find(|(version, of, ..)| *version > from && *of == kind).cloned()
                });
                if let Some((version, _, word, object)) = next {
                    let line = format!("{}\n", json!({"type": word, "object": object}));
                    return Some((Ok::<_, std::io::Error>(line), (fake, kind, version, changes, end)));
                }
                tokio::select! {
                    changed = changes.changed() => changed.ok()?,
                    () = &mut end => return None,
                }
            }
        },
    );
    Body::from_stream(lines).into_response()
}

impl Fake {
    fn with_quietly<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.inner.lock().unwrap().store)
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

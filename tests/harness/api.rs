//! A Kubernetes API in this process: objects in a map, watches with history, every call noted in order. For exact call order,
//! virtual time and faults; what the real one does is tried on the real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// The API, as its objects and what was asked of it.
#[derive(Clone, Default)]
pub struct Api {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct World {
    version: u64,
    /// By path, such as `/api/v1/namespaces/n/pods/p`.
    objects: BTreeMap<String, Value>,
    /// What watches show: version, path of the collection, event.
    history: Vec<(u64, String, Value)>,
    calls: Vec<Call>,
    faults: Vec<Fault>,
    hooks: Vec<Hook>,
}

struct Hook {
    verb: &'static str,
    path: String,
    then: Box<dyn FnOnce(&Api) + Send>,
}

/// One call that changed something, or tried to, or read.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `GET`, `LIST`, `PATCH`, `POST`, `DELETE`.
    pub verb: String,
    /// Path without query.
    pub path: String,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// The body, null where there is none.
    pub body: Value,
}

struct Fault {
    verb: &'static str,
    path: String,
    answer: Answer,
    left: usize,
}

/// What a fault answers instead.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This status, after nothing was done.
    Status(u16, Value),
    /// This status, although it was done.
    Done(u16),
    /// What is right, but only after this long.
    After(Duration),
}

impl Api {
    /// A client of this API.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    /// This API as a router, to be served on a socket.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// Puts an object at a path, as new or changed; watches show it.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut world = self.world.lock().unwrap();
        world.version += 1;
        let version = world.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let kind = if world.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        world.objects.insert(path.to_owned(), object.clone());
        world.history.push((version, collection(path), json!({"type": kind, "object": object})));
        drop(world);
        self.changed.notify_waiters();
    }

    /// Changes the object at a path.
    pub fn change(&self, path: &str, how: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap_or_else(|| panic!("no {path}"));
        how(&mut object);
        self.put(path, object);
    }

    /// Removes the object at a path.
    pub fn remove(&self, path: &str) {
        let mut world = self.world.lock().unwrap();
        world.version += 1;
        let version = world.version;
        let mut object = world.objects.remove(path).unwrap_or_else(|| panic!("no {path}"));
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        world.history.push((version, collection(path), json!({"type": "DELETED", "object": object})));
        drop(world);
        self.changed.notify_waiters();
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.world.lock().unwrap().objects.get(path).cloned()
    }

    /// Answers the next `times` calls of this verb to paths that end so with a fault.
    pub fn fail(&self, verb: &'static str, path: &str, times: usize, answer: Answer) {
        let fault = Fault { verb, path: path.to_owned(), answer, left: times };
        self.world.lock().unwrap().faults.push(fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.world.lock().unwrap().faults.clear();
    }

    /// Runs `then` once, just before the next call of this verb to a path that ends so is answered.
    pub fn before(&self, verb: &'static str, path: &str, then: impl FnOnce(&Self) + Send + 'static) {
        let hook = Hook { verb, path: path.to_owned(), then: Box::new(then) };
        self.world.lock().unwrap().hooks.push(hook);
    }

    /// All calls so far but watches and Events, in order.
    pub fn calls(&self) -> Vec<Call> {
        let world = self.world.lock().unwrap();
        world.calls.iter().filter(|call| !call.path.contains("events.k8s.io")).cloned().collect()
    }

    /// The calls that would kill.
    pub fn kills(&self) -> Vec<Call> {
        let is_kill = |call: &Call| call.verb == "DELETE" || call.path.ends_with("/eviction");
        self.calls().into_iter().filter(is_kill).collect()
    }

    /// The reasons of the Events written so far.
    pub fn events(&self) -> Vec<String> {
        self.field_of_events("reason")
    }

    /// What the Events written so far say.
    pub fn notes(&self) -> Vec<String> {
        self.field_of_events("note")
    }

    fn field_of_events(&self, field: &str) -> Vec<String> {
        let world = self.world.lock().unwrap();
        let events =
            world.calls.iter().filter(|call| call.path.contains("events.k8s.io") && call.verb == "POST");
        events.filter_map(|call| call.body[field].as_str().map(str::to_owned)).collect()
    }
}

impl Api {
    /// Notes a call, and finds what was arranged for it.
    fn note(&self, call: Call) -> (Option<Answer>, Option<Hook>) {
        let mut world = self.world.lock().unwrap();
        let is_meant = |verb: &str, path: &str| verb == call.verb && call.path.ends_with(path);
        let fault = world.faults.iter_mut().find(|fault| fault.left > 0 && is_meant(fault.verb, &fault.path));
        let fault = fault.map(|fault| {
            fault.left -= 1;
            fault.answer.clone()
        });
        let hook = world.hooks.iter().position(|hook| is_meant(hook.verb, &hook.path));
        let hook = hook.map(|at| world.hooks.swap_remove(at));
        world.calls.push(call);
        (fault, hook)
    }
}

fn collection(path: &str) -> String {
    path.rsplit_once('/').map_or(path, |(collection, _)| collection).to_owned()
}

async fn handle(
    State(api): State<Api>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let is_collection = api.get(&path).is_none() && is_collection(&path);
    if query.get("watch").is_some_and(|watch| watch == "true") {
        return watch(api, path, query);
    }
    let verb = if method == Method::GET && is_collection { "LIST".to_owned() } else { method.to_string() };
    let (fault, hook) =
        api.note(Call { verb: verb.clone(), path: path.clone(), query: query.clone(), body: body.clone() });
    if let Some(hook) = hook {
        (hook.then)(&api);
    }
    if let Some(Answer::After(time)) = fault {
        tokio::time::sleep(time).await;
    }
    if let Some(Answer::Status(code, details)) = fault {
        return status(code, "the fault that was asked for", details);
    }
    let answer = match verb.as_str() {
        "LIST" => list(&api, &path, &query),
        "GET" => api.get(&path).map_or_else(|| status(404, "not found", Value::Null), reply),
        "PATCH" => patch(&api, path.trim_end_matches("/status"), &body),
        "POST" if path.ends_with("/eviction") => {
            kill(&api, path.trim_end_matches("/eviction"), &body["deleteOptions"], &query)
        }
        "DELETE" => kill(&api, &path, &body, &query),
        "POST" if ["/optins", "/rolebindings", "/leases"].iter().any(|plural| path.ends_with(plural)) => {
            create(&api, &path, body)
        }
        "PUT" => replace(&api, &path, body),
        "POST" if path.ends_with("/subjectaccessreviews") => {
            let mut review = body;
            review["status"] = json!({"allowed": true});
            reply(review)
        }
        _ => reply(body),
    };
    match fault {
        Some(Answer::Done(code)) => status(code, "done, but who knows", Value::Null),
        _ => answer,
    }
}

/// `/api/v1/pods`, `/api/v1/namespaces/n/pods`, `/apis/g/v/pods`, …: with a group, one segment more.
fn is_collection(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let rest = if segments.first() == Some(&"api") { &segments[2..] } else { &segments[3..] };
    matches!(rest, [_] | ["namespaces", _, _])
}

/// Whether an object lies in a collection; a collection without a namespace holds those of all.
fn holds(collection_path: &str, of: &str) -> bool {
    if collection_path == of {
        return true;
    }
    let plural = collection_path.rsplit('/').next().unwrap_or_default();
    let base = collection_path.trim_end_matches(plural);
    of.starts_with(&format!("{base}namespaces/")) && of.ends_with(&format!("/{plural}"))
}

/// A page of a list: of at most `limit` objects, after those of the page that gave `continue`.
fn list(api: &Api, path: &str, query: &BTreeMap<String, String>) -> Response {
    let world = api.world.lock().unwrap();
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let (version, after) = match query.get("continue").and_then(|token| token.split_once(' ')) {
        Some((version, after)) => (version.to_owned(), after),
        None => (world.version.to_string(), ""),
    };
    let mut rest =
        world.objects.iter().filter(|(key, _)| key.as_str() > after && holds(path, &collection(key)));
    let page: Vec<(&String, &Value)> = rest.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": version});
    if let (Some(_), Some((last, _))) = (rest.next(), page.last()) {
        metadata["continue"] = json!(format!("{version} {last}"));
    }
    let items: Vec<&Value> = page.into_iter().map(|(_, object)| object).collect();
    reply(json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
}

fn replace(api: &Api, path: &str, object: Value) -> Response {
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

/// Creates what has to be stored; other things that are posted, such as Events, are only noted.
fn create(api: &Api, collection: &str, mut object: Value) -> Response {
    let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    if api.get(&path).is_some() {
        return status(409, "it exists", Value::Null);
    }
    object["metadata"]["uid"] = json!(path);
    api.put(&path, object);
    api.get(&path).map_or_else(|| status(500, "gone again", Value::Null), reply)
}

fn patch(api: &Api, path: &str, patch: &Value) -> Response {
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

fn kill(api: &Api, path: &str, options: &Value, query: &BTreeMap<String, String>) -> Response {
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

fn reply(object: Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], object.to_string()).into_response()
}

fn status(code: u16, message: &str, details: Value) -> Response {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Test",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    });
    (StatusCode::from_u16(code).unwrap(), [(header::CONTENT_TYPE, "application/json")], status.to_string())
        .into_response()
}

/// Shows what happened since `resourceVersion`, then what happens, until `timeoutSeconds`.
fn watch(api: Api, path: String, query: BTreeMap<String, String>) -> Response {
    let since: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(290);
    let end = Box::pin(tokio::time::sleep(Duration::from_secs(seconds)));
    let stream = futures::stream::unfold((api, since, end), move |(api, since, mut end)| {
        let path = path.clone();
        async move {
            loop {
                let changed = api.changed.clone();
                let changed = changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let next = {
                    let world = api.world.lock().unwrap();
                    world
                        .history
                        .iter()
                        .find(|(version, of, _)| *version > since && holds(&path, of))
                        .cloned()
                };
                if let Some((version, _, event)) = next {
                    return Some((
                        Ok::<_, std::convert::Infallible>(format!("{event}\n")),
                        (api, version, end),
                    ));
                }
                tokio::select! {
                    () = changed => {}
                    () = &mut end => return None,
                }
            }
        }
    });
    Response::new(Body::from_stream(stream))
}

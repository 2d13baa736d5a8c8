//! The fake Kubernetes API of all tests, in the test's own process. It keeps objects in a map,
//! serves watches with history, and notes every call in order. Tests use it to check the exact
//! order of calls, to run in virtual time, and to inject faults. Tests on a real cluster cover how
//! the real API server behaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use this crate")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::Notify;

mod received;
mod watches;
mod writes;

use watches::{Disturbance, watch};
use writes::{create, kill, patch, replace};

/// The message of every [`Answer::Status`].
pub const FAULT: &str = "the fault that was asked for";

type Interceptor = Box<dyn FnMut(&Call) -> Option<Answer> + Send>;

/// The API: its objects, and the calls that it received.
#[derive(Clone, Default)]
pub struct Api {
    world: Arc<Mutex<World>>,
    interceptors: Arc<Mutex<Vec<Interceptor>>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct World {
    version: u64,
    /// The objects, by path, such as `/api/v1/namespaces/n/pods/p`.
    objects: BTreeMap<String, Value>,
    /// The events that watches show: version, path of the collection, event.
    history: Vec<(u64, String, Value)>,
    calls: Vec<Call>,
    faults: Vec<Fault>,
    hooks: Vec<Hook>,
    /// The number of watches begun so far.
    watches: u64,
    disturbances: Vec<Disturbance>,
}

struct Hook {
    verb: &'static str,
    path: String,
    then: Box<dyn FnOnce(&Api) + Send>,
}

/// One call: a read, or a change that was made or tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `GET`, `LIST`, `PATCH`, `POST`, `DELETE`, `WATCH`.
    pub verb: String,
    /// The path without the query.
    pub path: String,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// The body; null if there is none.
    pub body: Value,
}

struct Fault {
    verb: &'static str,
    path: String,
    answer: Answer,
    left: usize,
}

/// The answer of a fault.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The API answers with this status and does nothing.
    Status(u16, Value),
    /// The API answers with this status, although it did what was asked.
    Done(u16),
    /// The API answers correctly, but only after this time.
    After(Duration),
    /// The API answers with this object and does nothing.
    Object(Value),
}

impl Api {
    /// A client of this API.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    /// This API as a router, so that a test can serve it on a socket.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// Answers one call directly. A way over HTTP would cost more than the answer.
    pub async fn answer(
        &self,
        method: &str,
        path: &str,
        query: &BTreeMap<String, String>,
        body: &Value,
    ) -> Response {
        answer(self.clone(), method, path.to_owned(), query.clone(), body.clone(), false).await
    }

    /// Puts an object at a path, as new or changed. Watches show it. If the object has a
    /// generation, another spec is the next generation.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut world = self.world.lock().unwrap();
        if let Some(stored) = world.objects.get(path)
            && let Some(generation) = stored["metadata"]["generation"].as_u64()
            && object["metadata"]["generation"] == generation
            && object["spec"] != stored["spec"]
        {
            object["metadata"]["generation"] = json!(generation + 1);
        }
        world.version += 1;
        let version = world.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let kind = if world.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        world.objects.insert(path.to_owned(), object.clone());
        world.history.push((version, collection(path), json!({"type": kind, "object": object})));
        drop(world);
        self.changed.notify_waiters();
    }

    /// Puts a changed object at a path without a watch event, as if the event were lost.
    pub fn put_unseen(&self, path: &str, mut object: Value) {
        let mut world = self.world.lock().unwrap();
        world.version += 1;
        object["metadata"]["resourceVersion"] = json!(world.version.to_string());
        world.objects.insert(path.to_owned(), object);
    }

    /// Removes the object at a path without a watch event, as if the event were lost.
    pub fn remove_unseen(&self, path: &str) {
        let mut world = self.world.lock().unwrap();
        world.version += 1;
        world.objects.remove(path).unwrap_or_else(|| panic!("no {path}"));
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

    /// All objects, by their paths.
    pub fn objects(&self) -> BTreeMap<String, Value> {
        self.world.lock().unwrap().objects.clone()
    }

    /// Answers the next `times` calls of this verb with a fault, if their path ends with `path`.
    pub fn fail(&self, verb: &'static str, path: &str, times: usize, answer: Answer) {
        let fault = Fault { verb, path: path.to_owned(), answer, left: times };
        self.world.lock().unwrap().faults.push(fault);
    }

    /// Ends all faults and all disturbances of watches.
    pub fn heal(&self) {
        let mut world = self.world.lock().unwrap();
        world.faults.clear();
        world.disturbances.clear();
        drop(world);
        self.changed.notify_waiters();
    }

    /// Runs `then` once, just before the API answers the next call of this verb to a path that ends
    /// with `path`.
    pub fn before(&self, verb: &'static str, path: &str, then: impl FnOnce(&Self) + Send + 'static) {
        let hook = Hook { verb, path: path.to_owned(), then: Box::new(then) };
        self.world.lock().unwrap().hooks.push(hook);
    }

    /// Shows each later call to `interceptor` before the API answers it. The interceptor may change
    /// the API, and may return another answer. [`Self::heal`] does not end this.
    pub fn intercept(&self, interceptor: impl FnMut(&Call) -> Option<Answer> + Send + 'static) {
        self.interceptors.lock().unwrap().push(Box::new(interceptor));
    }
}

impl Api {
    /// Notes a call, and finds the fault and the hook that a test arranged for it.
    fn note(&self, call: Call) -> (Option<Answer>, Option<Hook>) {
        let answers = self.interceptors.lock().unwrap().iter_mut().map(|ask| ask(&call)).collect::<Vec<_>>();
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
        (answers.into_iter().flatten().next().or(fault), hook)
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
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let is_strategic = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/strategic-merge-patch+json");
    answer(api, method.as_str(), uri.path().to_owned(), query, body, is_strategic).await
}

async fn answer(
    api: Api,
    method: &str,
    path: String,
    query: BTreeMap<String, String>,
    body: Value,
    is_strategic: bool,
) -> Response {
    let is_collection = is_collection(&path) && api.get(&path).is_none();
    let is_watch = query.get("watch").is_some_and(|watch| watch == "true");
    let verb = match method {
        "GET" if is_watch => "WATCH".to_owned(),
        "GET" if is_collection => "LIST".to_owned(),
        other => other.to_owned(),
    };
    let (fault, hook) =
        api.note(Call { verb: verb.clone(), path: path.clone(), query: query.clone(), body: body.clone() });
    if let Some(hook) = hook {
        (hook.then)(&api);
    }
    if let Some(Answer::After(time)) = fault {
        tokio::time::sleep(time).await;
    }
    match fault {
        Some(Answer::Status(code, details)) => return status(code, FAULT, details),
        Some(Answer::Object(object)) => return reply(object),
        _ => {}
    }
    let answer = match verb.as_str() {
        "WATCH" => return watch(api, path, query),
        "LIST" => list(&api, &path, &query),
        "GET" => api.get(&path).map_or_else(|| status(404, "not found", Value::Null), reply),
        "PATCH" => patch(&api, path.trim_end_matches("/status"), &body, is_strategic),
        "POST" if path.ends_with("/eviction") => {
            kill(&api, path.trim_end_matches("/eviction"), &body["deleteOptions"], &query)
        }
        "DELETE" => kill(&api, &path, &body, &query),
        "PUT" => replace(&api, &path, body),
        "POST" if path.ends_with("/subjectaccessreviews") => {
            let mut review = body;
            review["status"] = json!({"allowed": true});
            reply(review)
        }
        "POST" if path.ends_with("reviews") => reply(body),
        "POST" => create(&api, &path, body),
        _ => reply(body),
    };
    match fault {
        Some(Answer::Done(code)) => status(code, "done, but who knows", Value::Null),
        _ => answer,
    }
}

/// Whether a path is a collection: `/api/v1/pods`, `/api/v1/namespaces/n/pods`, `/apis/g/v/pods`,
/// …. A path with a group has one segment more.
fn is_collection(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let rest = if segments.first() == Some(&"api") { &segments[2..] } else { &segments[3..] };
    matches!(rest, [_] | ["namespaces", _, _])
}

/// Whether a collection contains an object. A collection without a namespace contains the objects
/// of all namespaces.
fn holds(collection_path: &str, of: &str) -> bool {
    if collection_path == of {
        return true;
    }
    let plural = collection_path.rsplit('/').next().unwrap_or_default();
    let base = collection_path.trim_end_matches(plural);
    of.starts_with(&format!("{base}namespaces/")) && of.ends_with(&format!("/{plural}"))
}

/// Whether the query selects this object. The only field selector that this API knows is
/// `metadata.name`.
fn is_selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let name = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    name.is_none_or(|name| object["metadata"]["name"] == name)
}

/// One page of a list: at most `limit` objects, after the page that gave `continue`.
fn list(api: &Api, path: &str, query: &BTreeMap<String, String>) -> Response {
    let world = api.world.lock().unwrap();
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let (version, after) = match query.get("continue").and_then(|token| token.split_once(' ')) {
        Some((version, after)) => (version.to_owned(), after),
        None => (world.version.to_string(), ""),
    };
    let mut rest = world.objects.iter().filter(|(key, object)| {
        key.as_str() > after && holds(path, &collection(key)) && is_selected(object, query)
    });
    let page: Vec<(&String, &Value)> = rest.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": version});
    if let (Some(_), Some((last, _))) = (rest.next(), page.last()) {
        metadata["continue"] = json!(format!("{version} {last}"));
    }
    let items: Vec<&Value> = page.into_iter().map(|(_, object)| object).collect();
    reply(json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
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

//! For tests: an API server in this process, with two kinds of objects. The fake keeps
//! resourceVersions, so conflicts are real. The fake can refuse a call, or carry it out and lose
//! the answer. And somebody else can write in the middle of a call.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::api::probe::{Look, Served};
use crate::rotation::observed::Data;

const SECRETS: &str = "/api/v1/namespaces/pure-chaos/secrets";
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/pure-chaos";

type Hook = Box<dyn FnOnce(&Fake) + Send>;

#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    version: u64,
    secrets: BTreeMap<String, Value>,
    configuration: Option<Value>,
    calls: Vec<String>,
    failures: Vec<Failing>,
    hooks: Vec<(String, Hook)>,
    served: usize,
    at: Option<(usize, Hook)>,
    injected: Vec<Vec<u8>>,
    writes: usize,
    crash: Option<(usize, Crash)>,
    endpoints: Option<Served>,
}

struct Failing {
    call: String,
    code: u16,
    times: usize,
}

/// When the process crashes, before or after a write.
#[derive(Debug, Clone, Copy)]
pub enum Crash {
    BeforeWrite,
    AfterWrite,
}

impl Fake {
    pub fn client(&self) -> kube::Client {
        kube::Client::new(Router::new().fallback(answer).with_state(self.clone()), "pure-chaos")
    }

    fn with<T>(&self, f: impl FnOnce(&mut Objects) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub fn secret(&self, name: &str) -> Option<Value> {
        self.with(|objects| objects.secrets.get(name).cloned())
    }

    pub fn data(&self, name: &str) -> Option<Data> {
        let data: BTreeMap<String, ByteString> =
            serde_json::from_value(self.secret(name)?["data"].take()).unwrap();
        Some(data.into_iter().map(|(key, value)| (key, value.0)).collect())
    }

    pub fn put_secret(&self, name: &str, secret: Value) {
        self.with(|objects| {
            let secret = objects.versioned(secret);
            objects.secrets.insert(name.to_owned(), secret);
        });
    }

    pub fn put_data(&self, name: &str, data: &Data) {
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| (key, ByteString(value.clone()))).collect();
        self.put_secret(name, json!({"metadata": {"name": name}, "type": "Opaque", "data": data}));
    }

    pub fn delete_secret(&self, name: &str) {
        self.with(|objects| objects.secrets.remove(name));
    }

    pub fn configuration(&self) -> Option<Value> {
        self.with(|objects| objects.configuration.clone())
    }

    pub fn put_configuration(&self, webhooks: &[&str]) {
        let webhooks: Vec<_> = webhooks
            .iter()
            .map(|name| {
                json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "newField": 1,
                    "clientConfig": {"service": {"name": "webhook", "namespace": "pure-chaos"}}})
            })
            .collect();
        self.with(|objects| {
            let configuration = json!({"metadata": {"name": "pure-chaos"}, "webhooks": webhooks});
            objects.configuration = Some(objects.versioned(configuration));
        });
    }

    pub fn delete_configuration(&self) {
        self.with(|objects| objects.configuration = None);
    }

    /// Returns each webhook's `caBundle`.
    pub fn bundles(&self) -> Vec<Vec<u8>> {
        let configuration = self.configuration().unwrap();
        let webhooks = configuration["webhooks"].as_array().unwrap();
        let bundle = |webhook: &Value| webhook["clientConfig"].get("caBundle").cloned();
        webhooks
            .iter()
            .map(|webhook| {
                bundle(webhook)
                    .map_or_else(Vec::new, |text| serde_json::from_value::<ByteString>(text).unwrap().0)
            })
            .collect()
    }

    /// Returns the path of each webhook that has a Service.
    pub fn paths(&self) -> Vec<String> {
        let configuration = self.configuration().unwrap();
        let webhooks = configuration["webhooks"].as_array().unwrap().iter();
        let services = webhooks.filter_map(|webhook| webhook["clientConfig"].get("service"));
        services.map(|service| service["path"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Writes somebody else's `caBundle` into the first webhook.
    pub fn overwrite_bundle(&self, bundle: &[u8]) {
        let bundle = json!(ByteString(bundle.to_vec()));
        self.edit_configuration(|configuration| {
            configuration["webhooks"][0]["clientConfig"]["caBundle"] = bundle;
        });
    }

    /// Edits the configuration, as somebody else would.
    pub fn edit_configuration(&self, edit: impl FnOnce(&mut Value)) {
        self.with(|objects| {
            let mut configuration = objects.configuration.take().unwrap();
            edit(&mut configuration);
            objects.configuration = Some(objects.versioned(configuration));
        });
    }

    /// Returns the calls since the last use of this function, as `METHOD name`.
    pub fn calls(&self) -> Vec<String> {
        self.with(|objects| std::mem::take(&mut objects.calls))
    }

    /// Answers the next `times` calls `METHOD name` with `code`.
    pub fn fail(&self, method: &str, name: &str, code: u16, times: usize) {
        let call = format!("{method} {name}");
        self.with(|objects| objects.failures.push(Failing { call, code, times }));
    }

    /// Lets somebody else act just before the next call `METHOD name` is carried out.
    pub fn before(&self, call: &str, hook: impl FnOnce(&Self) + Send + 'static) {
        self.with(|objects| objects.hooks.push((call.to_owned(), Box::new(hook))));
    }

    /// Lets somebody else act just before the `n`th call from now on, counted from 0.
    pub fn before_nth(&self, n: usize, hook: impl FnOnce(&Self) + Send + 'static) {
        self.with(|objects| objects.at = Some((objects.served + n, Box::new(hook))));
    }

    /// Returns whether the hook of [`Self::before_nth`] still waits.
    pub fn is_waiting(&self) -> bool {
        self.with(|objects| objects.at.is_some())
    }

    /// Returns every bundle that was patched into the first webhook, in order.
    pub fn injected(&self) -> Vec<Vec<u8>> {
        self.with(|objects| objects.injected.clone())
    }

    /// Lets the `n`th write from now on, counted from 0, end in a crash.
    pub fn crash_at(&self, n: usize, crash: Crash) {
        self.with(|objects| objects.crash = Some((objects.writes + n, crash)));
    }

    /// Sets what the endpoints serve from now on. Without a call of this function there are no
    /// endpoints.
    pub fn serve(&self, served: Served) {
        self.with(|objects| objects.endpoints = Some(served));
    }

    /// Returns whether the crash that the test asked for has happened.
    pub fn has_crashed(&self) -> bool {
        self.with(|objects| objects.crash.is_some_and(|(at, _)| objects.writes > at))
    }

    /// Takes the call's hook out, so that the hook runs without the lock.
    fn hook(&self, call: &str) -> Option<Hook> {
        self.with(|objects| {
            objects.served += 1;
            if let Some((_, hook)) = objects.at.take_if(|(nth, _)| *nth < objects.served) {
                return Some(hook);
            }
            let at = objects.hooks.iter().position(|(wanted, _)| wanted == call)?;
            Some(objects.hooks.remove(at).1)
        })
    }
}

impl Look for Fake {
    fn look(&self) -> Pin<Box<dyn Future<Output = Served> + Send + '_>> {
        let served = self.with(|objects| objects.endpoints.clone());
        Box::pin(std::future::ready(served.unwrap_or_else(|| Ok(Vec::new()))))
    }
}

impl Objects {
    fn versioned(&mut self, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object
    }

    fn failing(&mut self, call: &str) -> Option<u16> {
        let failing = self.failures.iter_mut().find(|failing| failing.call == call && failing.times > 0)?;
        failing.times -= 1;
        Some(failing.code)
    }

    fn carry_out(&mut self, method: &Method, path: &str, body: &Value) -> Result<Value, u16> {
        let name = path.rsplit('/').next().unwrap().to_owned();
        let current =
            if path == CONFIGURATION { self.configuration.as_ref() } else { self.secrets.get(&name) };
        if method == Method::GET {
            return current.cloned().ok_or(404);
        }
        if method == Method::POST && path == SECRETS {
            let name = body["metadata"]["name"].as_str().unwrap().to_owned();
            if self.secrets.contains_key(&name) {
                return Err(409);
            }
            let secret = self.versioned(body.clone());
            self.secrets.insert(name, secret.clone());
            return Ok(secret);
        }
        let mut current = current.cloned().ok_or(404_u16)?;
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        if version(body).unwrap() != version(&current).unwrap() {
            return Err(409);
        }
        if method == Method::PUT {
            let secret = self.versioned(body.clone());
            self.secrets.insert(name, secret.clone());
            return Ok(secret);
        }
        assert_eq!(method, Method::PATCH);
        for patch in body["webhooks"].as_array().unwrap() {
            let webhooks = current["webhooks"].as_array_mut().unwrap();
            let webhook = webhooks.iter_mut().find(|webhook| webhook["name"] == patch["name"]).unwrap();
            let (config, patch) = (&mut webhook["clientConfig"], &patch["clientConfig"]);
            if let Some(path) = patch.pointer("/service/path") {
                config["service"]["path"] = path.clone();
            }
            if let Some(bundle) = patch.get("caBundle") {
                config["caBundle"] = bundle.clone();
            }
        }
        if body["webhooks"][0]["clientConfig"].get("caBundle").is_some() {
            let bundle = current["webhooks"][0]["clientConfig"]["caBundle"].clone();
            self.injected.push(serde_json::from_value::<ByteString>(bundle).unwrap().0);
        }
        let configuration = self.versioned(current);
        self.configuration = Some(configuration.clone());
        Ok(configuration)
    }
}

async fn answer(State(fake): State<Fake>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path();
    assert!(
        path.starts_with(SECRETS) || path == CONFIGURATION,
        "{method} {path} is no call that certs has a right to"
    );
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let named = match body["metadata"]["name"].as_str() {
        Some(name) if method == Method::POST => name.to_owned(),
        _ => path.rsplit('/').next().unwrap().to_owned(),
    };
    let call = format!("{method} {named}");
    if let Some(hook) = fake.hook(&call) {
        hook(&fake);
    }
    let outcome = fake.with(|objects| {
        objects.calls.push(call.clone());
        if let Some(code) = objects.failing(&call) {
            return Err(code);
        }
        if method == Method::GET {
            return objects.carry_out(&method, path, &body);
        }
        let crash = objects.crash.filter(|(at, _)| *at == objects.writes);
        objects.writes += 1;
        match crash {
            Some((_, Crash::BeforeWrite)) => Err(500),
            Some((_, Crash::AfterWrite)) => objects.carry_out(&method, path, &body).and(Err(504)),
            None => objects.carry_out(&method, path, &body),
        }
    });
    match outcome {
        Ok(object) => Json(object).into_response(),
        Err(code) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "message": "as the test wants it", "reason": "Test"});
            (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
        }
    }
}

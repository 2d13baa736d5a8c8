//! The fake API as the tests of certs use it: two kinds of objects, a process that crashes, and
//! endpoints that serve a certificate.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fake_api::{Answer, Api};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::api::probe::{Look, Served};
use crate::rotation::observed::Data;

const SECRETS: &str = "/api/v1/namespaces/pure-chaos/secrets";
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/pure-chaos";

#[derive(Clone)]
pub struct Fake {
    api: Api,
    has_crashed: Arc<AtomicBool>,
    endpoints: Arc<Mutex<Option<Served>>>,
}

/// When the process crashes, before or after a write.
#[derive(Debug, Clone, Copy)]
pub enum Crash {
    BeforeWrite,
    AfterWrite,
}

impl Deref for Fake {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Default for Fake {
    fn default() -> Self {
        let api = Api::default();
        api.intercept(|call| {
            let (verb, path) = (call.verb.as_str(), call.path.as_str());
            let is_right = path.starts_with(SECRETS) || path == CONFIGURATION;
            assert!(is_right, "{verb} {path} is no call that certs has a right to");
            let is_change = matches!(verb, "PUT" | "PATCH");
            assert!(
                !is_change || call.body["metadata"]["resourceVersion"].is_string(),
                "{verb} {path} is blind"
            );
            None
        });
        Self { api, has_crashed: Arc::default(), endpoints: Arc::default() }
    }
}

fn secret(name: &str) -> String {
    format!("{SECRETS}/{name}")
}

impl Fake {
    pub fn secret(&self, name: &str) -> Option<Value> {
        self.get(&secret(name))
    }

    pub fn data(&self, name: &str) -> Option<Data> {
        let data: BTreeMap<String, ByteString> =
            serde_json::from_value(self.secret(name)?["data"].take()).unwrap();
        Some(data.into_iter().map(|(key, value)| (key, value.0)).collect())
    }

    pub fn put_secret(&self, name: &str, object: Value) {
        self.put(&secret(name), object);
    }

    pub fn put_data(&self, name: &str, data: &Data) {
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| (key, ByteString(value.clone()))).collect();
        self.put_secret(name, json!({"metadata": {"name": name}, "type": "Opaque", "data": data}));
    }

    pub fn delete_secret(&self, name: &str) {
        self.remove(&secret(name));
    }

    pub fn configuration(&self) -> Option<Value> {
        self.get(CONFIGURATION)
    }

    pub fn put_configuration(&self, webhooks: &[&str]) {
        let webhooks: Vec<_> = webhooks
            .iter()
            .map(|name| {
                json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "newField": 1,
                    "clientConfig": {"service": {"name": "webhook", "namespace": "pure-chaos"}}})
            })
            .collect();
        self.put(CONFIGURATION, json!({"metadata": {"name": "pure-chaos"}, "webhooks": webhooks}));
    }

    pub fn delete_configuration(&self) {
        self.remove(CONFIGURATION);
    }

    /// Returns each webhook's `caBundle`.
    pub fn bundles(&self) -> Vec<Vec<u8>> {
        self.configuration().unwrap()["webhooks"].as_array().unwrap().iter().map(bundle).collect()
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
        self.change(CONFIGURATION, edit);
    }

    /// Returns the calls since the last use of this function, as `METHOD name`.
    pub fn new_calls(&self) -> Vec<String> {
        let calls = self.take_calls().into_iter();
        calls
            .map(|call| match call.body["metadata"]["name"].as_str() {
                Some(name) if call.verb == "POST" => format!("POST {name}"),
                _ => format!("{} {}", call.verb, call.path.rsplit('/').next().unwrap()),
            })
            .collect()
    }

    /// Returns every bundle that the first webhook has had, in order.
    pub fn injected(&self) -> Vec<Vec<u8>> {
        let versions = self.versions("/validatingwebhookconfigurations");
        versions.iter().map(|configuration| bundle(&configuration["webhooks"][0])).collect()
    }

    /// Lets the `n`th write from now on, counted from 0, end in a crash.
    pub fn crash_at(&self, n: usize, crash: Crash) {
        let (has_crashed, mut writes) = (Arc::clone(&self.has_crashed), 0..);
        self.intercept(move |call| {
            let is_due = call.verb != "GET" && writes.next() == Some(n);
            has_crashed.fetch_or(is_due, Ordering::Relaxed);
            is_due.then_some(match crash {
                Crash::BeforeWrite => Answer::Status(500, Value::Null),
                Crash::AfterWrite => Answer::Done(504),
            })
        });
    }

    /// Sets what the endpoints serve from now on. Without a call of this function there are no
    /// endpoints.
    pub fn serve(&self, served: Served) {
        *self.endpoints.lock().unwrap() = Some(served);
    }

    /// Returns whether the crash that the test asked for has happened.
    pub fn has_crashed(&self) -> bool {
        self.has_crashed.load(Ordering::Relaxed)
    }
}

fn bundle(webhook: &Value) -> Vec<u8> {
    let bundle = webhook["clientConfig"].get("caBundle");
    bundle.map_or_else(Vec::new, |text| serde_json::from_value::<ByteString>(text.clone()).unwrap().0)
}

impl Look for Fake {
    fn look(&self) -> Pin<Box<dyn Future<Output = Served> + Send + '_>> {
        let served = self.endpoints.lock().unwrap().clone();
        Box::pin(std::future::ready(served.unwrap_or_else(|| Ok(Vec::new()))))
    }
}

//! The bundle in the webhook configuration.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use runtime::client::call;
use serde_json::{Value, json};

use crate::store::{Failure, MANAGER, Written, found, written};

/// The configuration as it was read: each webhook's name and `caBundle`, and all else of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    resource_version: Option<String>,
    webhooks: Vec<(String, Vec<u8>)>,
    rest: String,
}

impl Configuration {
    /// The `caBundle` of each webhook, empty where there is none.
    #[must_use]
    pub fn bundles(&self) -> Vec<Vec<u8>> {
        self.webhooks.iter().map(|(_, bundle)| bundle.clone()).collect()
    }

    /// The webhooks without `caBundle`, as text to compare.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

impl From<ValidatingWebhookConfiguration> for Configuration {
    fn from(read: ValidatingWebhookConfiguration) -> Self {
        let mut all = read.webhooks.unwrap_or_default();
        let webhooks = all
            .iter_mut()
            .map(|webhook| {
                (webhook.name.clone(), webhook.client_config.ca_bundle.take().unwrap_or_default().0)
            })
            .collect();
        Self { resource_version: read.metadata.resource_version, webhooks, rest: json!(all).to_string() }
    }
}

/// One webhook configuration.
#[derive(Clone)]
pub struct Injector {
    name: String,
    configurations: Api<ValidatingWebhookConfiguration>,
}

impl Injector {
    /// The webhook configuration `name`.
    #[must_use]
    pub fn new(client: Client, name: &str) -> Self {
        Self { name: name.to_owned(), configurations: Api::all(client) }
    }

    /// Reads the configuration; `None` if there is none.
    ///
    /// # Errors
    /// When the API server fails, or refuses.
    pub async fn read(&self) -> Result<Option<Configuration>, Failure> {
        let outcome = call(self.configurations.get(&self.name)).await;
        Ok(found(self.object(), outcome)?.map(Configuration::from))
    }

    /// Makes every webhook's `caBundle` the bundle and changes nothing else. Refused as a conflict if the configuration has changed
    /// since it was read.
    ///
    /// # Errors
    /// When the API server fails, or refuses.
    pub async fn inject(&self, read: &Configuration, bundle_pem: &str) -> Result<Written, Failure> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Strategic(patch(read, bundle_pem));
        let outcome = call(self.configurations.patch(&self.name, &params, &patch)).await;
        written("patch", self.object(), outcome)
    }

    fn object(&self) -> String {
        format!("ValidatingWebhookConfiguration {}", self.name)
    }
}

/// A strategic merge patch: it finds webhooks by name, so that it neither replaces their list nor depends on their order. With the
/// resourceVersion, because a webhook that was removed in between would come back as half a webhook.
fn patch(read: &Configuration, bundle_pem: &str) -> Value {
    let bundle = k8s_openapi::ByteString(bundle_pem.as_bytes().to_vec());
    let webhooks: Vec<_> = read
        .webhooks
        .iter()
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    json!({"metadata": {"resourceVersion": read.resource_version}, "webhooks": webhooks})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn only_the_bundles_change() {
        let fake = Fake::default();
        let injector = Injector::new(fake.client(), "pure-chaos");
        assert_eq!(injector.read().await.unwrap(), None);
        fake.put_configuration(&["opt-in.purechaos.dev", "kill.purechaos.dev"]);
        let before = fake.configuration().unwrap();
        let read = injector.read().await.unwrap().unwrap();
        assert_eq!(read.bundles(), [Vec::<u8>::new(), Vec::new()]);
        assert_eq!(injector.inject(&read, "text").await.unwrap(), Written::Done);
        let mut after = fake.configuration().unwrap();
        let bundles = injector.read().await.unwrap().unwrap().bundles();
        assert_eq!(bundles, [b"text".to_vec(), b"text".to_vec()]);
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        for index in 0..2 {
            after["webhooks"][index]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
        }
        assert_eq!(after, before);
    }

    #[tokio::test]
    async fn a_concurrent_edit_is_not_lost() {
        let fake = Fake::default();
        let injector = Injector::new(fake.client(), "pure-chaos");
        fake.put_configuration(&["opt-in.purechaos.dev", "kill.purechaos.dev"]);
        let read = injector.read().await.unwrap().unwrap();
        fake.put_configuration(&["kill.purechaos.dev"]);
        assert_eq!(injector.inject(&read, "text").await.unwrap(), Written::Conflict);
        assert_eq!(fake.configuration().unwrap()["webhooks"].as_array().unwrap().len(), 1);
        fake.delete_configuration();
        assert_eq!(injector.inject(&read, "text").await.unwrap(), Written::Conflict, "deleted");
    }
}

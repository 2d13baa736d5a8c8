//! Reads and writes the bundle and the paths in the webhook configuration.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use runtime::client::call;
use serde_json::{Value, json};

use crate::api::secrets::{Failure, MANAGER, Written, found, written};

/// The path on which the API server calls the Service of one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathOf {
    webhook: String,
    /// The first part of the path, which is the webhook's name up to its first dot.
    pub route: String,
    /// The path; `None` means `/`.
    pub path: Option<String>,
}

/// The webhook configuration as it was read: the name and `caBundle` of each webhook, the paths,
/// and all other fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    resource_version: Option<String>,
    webhooks: Vec<(String, Vec<u8>)>,
    paths: Vec<PathOf>,
    rest: String,
}

impl Configuration {
    /// Returns the `caBundle` of each webhook, empty if the webhook has none.
    #[must_use]
    pub fn bundles(&self) -> Vec<Vec<u8>> {
        self.webhooks.iter().map(|(_, bundle)| bundle.clone()).collect()
    }

    /// Returns the path of each webhook that is called through a Service.
    #[must_use]
    pub fn paths(&self) -> &[PathOf] {
        &self.paths
    }

    /// Returns the webhooks without `caBundle` and path, as text to compare.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

impl From<ValidatingWebhookConfiguration> for Configuration {
    fn from(read: ValidatingWebhookConfiguration) -> Self {
        let mut all = read.webhooks.unwrap_or_default();
        let paths = all
            .iter_mut()
            .filter_map(|webhook| {
                let path = webhook.client_config.service.as_mut()?.path.take();
                let route = webhook.name.split('.').next().unwrap_or_default().to_owned();
                Some(PathOf { webhook: webhook.name.clone(), route, path })
            })
            .collect();
        let webhooks = all
            .iter_mut()
            .map(|webhook| {
                (webhook.name.clone(), webhook.client_config.ca_bundle.take().unwrap_or_default().0)
            })
            .collect();
        Self {
            resource_version: read.metadata.resource_version,
            webhooks,
            paths,
            rest: json!(all).to_string(),
        }
    }
}

/// Access to one webhook configuration.
#[derive(Clone)]
pub struct Injector {
    name: String,
    configurations: Api<ValidatingWebhookConfiguration>,
}

impl Injector {
    /// Creates the access to the webhook configuration `name`.
    #[must_use]
    pub fn new(client: Client, name: &str) -> Self {
        Self { name: name.to_owned(), configurations: Api::all(client) }
    }

    /// Reads the configuration. Returns `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the API server fails or refuses.
    pub async fn read(&self) -> Result<Option<Configuration>, Failure> {
        let outcome = call(self.configurations.get(&self.name)).await;
        Ok(found(self.object(), outcome)?.map(Configuration::from))
    }

    /// Sets the `caBundle` of every webhook to the bundle, and changes nothing else. The write is a
    /// conflict if the configuration has changed since it was read.
    ///
    /// # Errors
    /// Returns an error if the API server fails or refuses.
    pub async fn inject(&self, read: &Configuration, bundle_pem: &str) -> Result<Written, Failure> {
        let bundle = k8s_openapi::ByteString(bundle_pem.as_bytes().to_vec());
        let webhooks = read.webhooks.iter();
        let webhooks = webhooks.map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}));
        self.patch(read, webhooks.collect()).await
    }

    /// Gives every webhook that is called through a Service the path of its route, and changes
    /// nothing else. The write is a conflict if the configuration has changed since it was read.
    ///
    /// # Errors
    /// Returns an error if the API server fails or refuses.
    pub async fn inject_paths(
        &self,
        read: &Configuration,
        path: impl Fn(&str) -> String,
    ) -> Result<Written, Failure> {
        let webhooks = read.paths.iter().map(|PathOf { webhook, route, .. }| {
            json!({"name": webhook, "clientConfig": {"service": {"path": path(route)}}})
        });
        self.patch(read, webhooks.collect()).await
    }

    /// Sends a strategic merge patch. Such a patch finds webhooks by name, so it neither replaces
    /// their list nor depends on their order. The patch contains the resourceVersion: without it, a
    /// webhook that somebody has just removed would come back as half a webhook.
    async fn patch(&self, read: &Configuration, webhooks: Vec<Value>) -> Result<Written, Failure> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = json!({"metadata": {"resourceVersion": read.resource_version}, "webhooks": webhooks});
        let outcome = call(self.configurations.patch(&self.name, &params, &Patch::Strategic(patch))).await;
        written("patch", self.object(), outcome)
    }

    fn object(&self) -> String {
        format!("ValidatingWebhookConfiguration {}", self.name)
    }
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

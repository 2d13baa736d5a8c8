//! Knows whether an opt-in can be stored without a review. Such an opt-in is possible while our
//! webhook configuration is missing or narrowed, or while an API server may not obey a recent
//! change of it.
//!
//! An opt-in that is stored in that time stays `NotAdmitted`, whatever a review says. The guard is
//! a second factor, in case the secret path has leaked.
//!
//! The guard does not evaluate match conditions, and only notices that they change. A user who may
//! edit the configuration could stop the reviews anyway.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use parking_lot::Mutex;
use policy::well_known::SYSTEM_NAMESPACE;
use runtime::clock::Clock;
use tokio::time::Instant;

/// How long after a change an API server may still act as before, because it follows its
/// configurations by a watch.
pub const SETTLE: Duration = Duration::from_secs(5);

/// Name of the webhook that reviews opt-ins.
const OPT_IN: &str = "opt-in.purechaos.dev";
/// All resources through which an annotation of a Namespace can be set.
const RESOURCES: [&str; 3] = ["namespaces", "namespaces/status", "namespaces/finalize"];

/// What this replica knows of the webhook configuration.
pub struct ConfigurationWatch {
    clock: Arc<dyn Clock>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    /// The webhook as JSON, without the fields that `certs` changes. `None` while the webhook lets
    /// an opt-in through without a review.
    webhook: Option<String>,
    /// When the webhook was last seen to change. `None` if it has not changed since this process
    /// first saw it.
    changed: Option<Instant>,
}

impl ConfigurationWatch {
    /// Creates a guard that has seen no configuration yet, so it does not hold.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    /// Takes over the present configuration; `None` means that there is none.
    pub fn configuration(&self, configuration: Option<&ValidatingWebhookConfiguration>) {
        let mut webhooks = configuration.and_then(|read| read.webhooks.as_deref()).unwrap_or_default().iter();
        let webhook =
            webhooks.find(|webhook| webhook.name == OPT_IN).filter(|webhook| guards(webhook)).map(text);
        let mut seen = self.seen.lock();
        let changed = match &*seen {
            None => None,
            Some(before) if before.webhook == webhook => before.changed,
            Some(_) => Some(self.clock.monotonic()),
        };
        if changed.is_some() && webhook.is_none() {
            tracing::warn!(
                "the webhook configuration lets opt-ins through without a review; they are not admitted"
            );
        }
        *seen = Some(Seen { webhook, changed });
    }

    /// Returns whether every opt-in that is stored now was reviewed.
    #[must_use]
    pub fn holds(&self) -> bool {
        let seen = self.seen.lock();
        seen.as_ref().is_some_and(|Seen { webhook, changed }| {
            let is_settled = |at: Instant| self.clock.monotonic().duration_since(at) >= SETTLE;
            webhook.is_some() && changed.is_none_or(is_settled)
        })
    }
}

/// Returns whether the API server asks our Service about each change of each Namespace. Match
/// conditions are not considered.
fn guards(webhook: &ValidatingWebhook) -> bool {
    let is_all = |selector: &Option<LabelSelector>| {
        selector.as_ref().is_none_or(|selector| {
            selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
                && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
        })
    };
    let service = webhook.client_config.service.as_ref();
    let is_asked = |operation: &str, resource: &str| {
        let has = |list: &Option<Vec<String>>, word: &str| {
            list.iter().flatten().any(|known| known == word || known == "*")
        };
        webhook.rules.iter().flatten().any(|rule| {
            has(&rule.operations, operation)
                && has(&rule.api_groups, "")
                && has(&rule.api_versions, "v1")
                && rule.resources.iter().flatten().any(|known| known == resource || known == "*/*")
                && rule.scope.as_deref().is_none_or(|scope| scope != "Namespaced")
        })
    };
    service.is_some_and(|service| service.namespace == SYSTEM_NAMESPACE)
        && webhook.failure_policy.as_deref().is_none_or(|policy| policy == "Fail")
        && is_all(&webhook.namespace_selector)
        && is_all(&webhook.object_selector)
        && RESOURCES.iter().all(|resource| is_asked("CREATE", resource) && is_asked("UPDATE", resource))
}

fn text(webhook: &ValidatingWebhook) -> String {
    let mut webhook = webhook.clone();
    webhook.client_config.ca_bundle = None;
    if let Some(service) = &mut webhook.client_config.service {
        service.path = None;
    }
    serde_json::json!(webhook).to_string()
}

#[cfg(test)]
mod tests;

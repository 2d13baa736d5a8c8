//! Lists objects live, page by page. Nothing here comes from a cache.

use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use runtime::client::{CallError, call};
use serde::de::DeserializeOwned;

use crate::cluster::pods::PAGE;

/// The most pages of a list: 100,000 objects in one namespace. A longer list counts as endless.
const MOST_PAGES: usize = 1_000;

/// How long all lists of one look may take together.
pub(super) const LOOK_DEADLINE: Duration = Duration::from_secs(20);

/// Why a list could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server gave no usable answer.
    #[error("failed to list {what}: {cause}")]
    Call {
        /// The plural of the kind that was listed.
        what: String,
        /// The error of the client.
        cause: CallError,
    },
    /// The lists took too long, so the first of them is out of date.
    #[error("failed to list the objects of the namespace within {} s", LOOK_DEADLINE.as_secs())]
    TooSlow,
    /// The list has too many pages.
    #[error("failed to list {0}: the list has more than {MOST_PAGES} pages")]
    Endless(String),
}

impl ListError {
    /// Whether the agent lacks the right for the list.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Call { cause, .. } if cause.code() == Some(403))
    }
}

/// Lists all objects of a kind in a namespace, page by page.
///
/// # Errors
/// When the list can't be completed.
pub async fn list<K>(client: &Client, namespace: &str) -> Result<Vec<K>, ListError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    list_all(&Api::namespaced(client.clone(), namespace), ListParams::default()).await
}

/// Lists all objects of an [`Api`] that match these parameters, page by page.
///
/// # Errors
/// When the list can't be completed.
pub async fn list_all<K>(api: &Api<K>, parameters: ListParams) -> Result<Vec<K>, ListError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    list_with_version(api, parameters).await.map(|(all, _)| all)
}

/// Does the same as [`list_all`], and also returns the version from which a watch can continue.
///
/// # Errors
/// When the list can't be completed.
pub async fn list_with_version<K>(api: &Api<K>, parameters: ListParams) -> Result<(Vec<K>, String), ListError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let what = || K::plural(&()).into_owned();
    let mut parameters = parameters.limit(PAGE);
    let mut all = Vec::new();
    for _ in 0..MOST_PAGES {
        let page =
            call(api.list(&parameters)).await.map_err(|cause| ListError::Call { what: what(), cause })?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok((all, page.metadata.resource_version.unwrap_or_default())),
        }
    }
    Err(ListError::Endless(what()))
}

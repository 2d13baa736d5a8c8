//! The names that a word may be completed to.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::args::Target;
use crate::completion::{Asked, Wanted};

/// Nobody waits longer for a Tab.
const LIMIT: Duration = Duration::from_secs(2);

/// What is known; nothing where it can't be found out, for a line that is being typed is no place for errors.
pub async fn known(asked: &Asked) -> Vec<String> {
    let kubeconfig = asked.target.kubeconfig.as_deref();
    match &asked.wanted {
        Wanted::File => Vec::new(),
        Wanted::Words(words) => words.clone(),
        Wanted::Context => runtime::client::contexts(kubeconfig).unwrap_or_default(),
        Wanted::Namespace => {
            let names = tokio::time::timeout(LIMIT, namespaces(&asked.target)).await;
            names.ok().and_then(Result::ok).unwrap_or_default()
        }
    }
}

async fn namespaces(target: &Target) -> anyhow::Result<Vec<String>> {
    let client =
        runtime::client::connect_as_person(target.kubeconfig.as_deref(), target.context.as_deref()).await?;
    let list = Api::<Namespace>::all(client).list_metadata(&ListParams::default()).await?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

//! The names to which a word can be completed.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::args::Target;
use crate::completion::{Asked, Wanted};

/// How long the plugin waits for the list of namespaces. Nobody waits longer after pressing Tab.
const LIMIT: Duration = Duration::from_secs(2);

/// The names that can complete the line. Empty if they cannot be found, because an error message
/// has no place in a line that a user is typing.
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

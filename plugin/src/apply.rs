//! A change, sent to the API server with the rights of whoever asks.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Api, Client, Resource, ResourceExt};
use runtime::client::{CallError, call};

use crate::change::Change;

/// Who wrote an annotation, in the Namespace's `managedFields`.
pub const FIELD_MANAGER: &str = "kubectl-chaos";

/// What came of a change.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// The Namespace's annotations after it.
    pub annotations: BTreeMap<String, String>,
    /// What the API server warned of.
    pub warnings: Vec<String>,
}

/// Carries out a change. By hand, because the client shows no headers of an answer, and warnings are in them.
///
/// # Errors
/// When it is denied, or there was no usable answer.
pub async fn apply(client: &Client, change: &Change) -> Result<Applied, CallError> {
    let parameters = PatchParams { dry_run: change.dry_run, ..PatchParams::apply(FIELD_MANAGER) };
    let request = Request::new(Namespace::url_path(&(), None))
        .patch(&change.namespace, &parameters, &Patch::Merge(change.patch()))
        .map_err(kube::Error::BuildRequest)?;
    call(async {
        let response = client.send(request.map(Body::from)).await?;
        let is_success = response.status().is_success();
        let headers = response.headers().get_all("warning").iter();
        let warnings = headers.filter_map(|value| warning(value.to_str().ok()?)).collect();
        let body = response.into_body().collect_bytes().await?;
        if !is_success {
            let status: Status = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
            return Err(kube::Error::Api(Box::new(status)));
        }
        let namespace: Namespace = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
        Ok(Applied { annotations: namespace.annotations().clone(), warnings })
    })
    .await
}

/// The annotations of a Namespace.
///
/// # Errors
/// When there is no usable answer.
pub async fn annotations(client: &Client, name: &str) -> Result<BTreeMap<String, String>, CallError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = call(namespaces.get_metadata(name)).await?;
    Ok(namespace.metadata.annotations.unwrap_or_default())
}

/// The text of a header `299 - "text"`.
fn warning(header: &str) -> Option<String> {
    let (_, quoted) = header.split_once('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(text),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(warning(r#"299 - "has \"no\" effect""#).as_deref(), Some(r#"has "no" effect"#));
        assert_eq!(warning("299 - none"), None);
        assert_eq!(warning("299 - \"cut off"), None);
    }
}

//! Sends requests to the API server, with the rights of the user who runs the plugin.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{GetParams, Patch, PatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Api, Client, Resource, ResourceExt};
use policy::record::OptIn;
use policy::well_known::RECORD;
use runtime::client::{CallError, call};
use serde::de::DeserializeOwned;

use crate::change::Change;

/// The field manager of the annotations that the plugin writes, as the Namespace's `managedFields`
/// show it.
pub const FIELD_MANAGER: &str = "kubectl-chaos";

/// The result of a change.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// The annotations of the Namespace after the change.
    pub annotations: BTreeMap<String, String>,
    /// The warnings that the API server sent with its answer.
    pub warnings: Vec<String>,
}

/// Carries out a change.
///
/// # Errors
/// Returns an error if the API server refuses the change or gives no usable answer.
pub async fn apply(client: &Client, change: &Change) -> Result<Applied, CallError> {
    let Answered { object, warnings, .. } = send::<Namespace>(client, Question::Change(change)).await?;
    Ok(Applied { annotations: object.annotations().clone(), warnings })
}

/// Reads the record of a namespace. Also returns the time of the answer by the API server's clock,
/// if the answer contains it.
///
/// # Errors
/// Returns an error if the namespace has no record, or if the API server gives no usable answer.
pub async fn record(client: &Client, namespace: &str) -> Result<(OptIn, Option<Timestamp>), CallError> {
    let Answered { object, date, .. } = send(client, Question::Record(namespace)).await?;
    Ok((object, date))
}

/// Reads the annotations of a Namespace.
///
/// # Errors
/// Returns an error if the API server gives no usable answer.
pub async fn annotations(client: &Client, name: &str) -> Result<BTreeMap<String, String>, CallError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = call(namespaces.get_metadata(name)).await?;
    Ok(namespace.metadata.annotations.unwrap_or_default())
}

enum Question<'a> {
    Change(&'a Change),
    Record(&'a str),
}

struct Answered<T> {
    object: T,
    warnings: Vec<String>,
    date: Option<Timestamp>,
}

/// Sends a request and reads the headers of the answer, which contain the warnings and the API
/// server's time. [`Api`] does not return headers.
async fn send<T: DeserializeOwned>(
    client: &Client,
    question: Question<'_>,
) -> Result<Answered<T>, CallError> {
    let request = match question {
        Question::Change(change) => {
            let parameters = PatchParams { dry_run: change.dry_run, ..PatchParams::apply(FIELD_MANAGER) };
            Request::new(Namespace::url_path(&(), None)).patch(
                &change.namespace,
                &parameters,
                &Patch::Merge(change.patch()),
            )
        }
        Question::Record(namespace) => {
            Request::new(OptIn::url_path(&(), Some(namespace))).get(RECORD, &GetParams::default())
        }
    };
    let request = request.map_err(kube::Error::BuildRequest)?;
    call(async {
        let response = client.send(request.map(Body::from)).await?;
        let code = response.status();
        let headers = response.headers();
        let warnings = headers.get_all("warning").iter();
        let warnings = warnings.filter_map(|value| warning(&String::from_utf8_lossy(value.as_bytes())));
        let warnings = warnings.collect();
        let date = headers.get("date").and_then(|value| date(value.to_str().ok()?));
        let body = response.into_body().collect_bytes().await?;
        if !code.is_success() {
            return Err(kube::Error::Api(Box::new(refusal(code.as_u16(), &body))));
        }
        let object = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
        Ok(Answered { object, warnings, date })
    })
    .await
}

/// Reads the error in an answer. A proxy in front of the API server may have written the answer, in
/// any form.
fn refusal(code: u16, body: &[u8]) -> Status {
    let read = serde_json::from_slice::<Status>(body).ok().filter(|status| status.code != 0);
    read.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        Status::failure(&format!("HTTP {code} in an answer that no API server wrote: {}", text.trim()), "")
            .with_code(code)
    })
}

/// Reads the text of a `Warning` header such as `299 - "text"`. `None` if the header has another
/// form.
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

/// Reads the instant of a `Date` header. `None` if the header has another form.
fn date(header: &str) -> Option<Timestamp> {
    rfc2822::parse(header).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_api_servers_or_says_that_it_is_not() {
        let status =
            refusal(403, br#"{"kind": "Status", "code": 403, "message": "no", "reason": "Forbidden"}"#);
        assert_eq!((status.code, status.message.as_str()), (403, "no"));
        for body in ["<html>", "{}", ""] {
            let status = refusal(502, body.as_bytes());
            assert_eq!(status.code, 502);
            assert!(status.message.starts_with("HTTP 502") && status.message.ends_with(body), "{status:?}");
        }
    }

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(warning(r#"299 - "has \"no\" effect""#).as_deref(), Some(r#"has "no" effect"#));
        assert_eq!(warning("299 - none"), None);
        assert_eq!(warning("299 - \"cut off"), None);
    }

    #[test]
    fn a_date_is_read_as_servers_write_it() {
        let expected: Timestamp = "2026-11-23T12:00:05Z".parse().unwrap();
        assert_eq!(date("Mon, 23 Nov 2026 12:00:05 GMT"), Some(expected));
        assert_eq!(date("soon"), None);
    }
}

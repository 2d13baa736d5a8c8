//! Why a namespace has no record, and what you can do about it.

use std::time::Duration;

use agent::cluster::policy_config_map;
use agent::guard::namespace::protection;
use jiff::Timestamp;
use kube::Client;
use policy::consent::Consent;
use policy::platform::PlatformPolicy;
use policy::settings::Key;
use runtime::client::CallError;
use runtime::clock::{Clock, SystemClock};

use crate::args::Target;
use crate::{apply, suggest};

/// How long the plugin waits for the platform's policy. Few users may read it, so the plugin goes
/// on without it.
const LOOK: Duration = Duration::from_secs(2);

/// Why a namespace has no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// The namespace does not exist.
    NoNamespace,
    /// The namespace is protected. Holds a sentence that says why.
    Protected(String),
    /// The namespace did not opt in.
    NotOptedIn,
    /// The opt-in expired at this instant.
    Expired(Timestamp),
    /// The namespace opted in, but the webhook has not written its record yet.
    Unwritten,
}

impl Absence {
    /// Finds out why a namespace has no record.
    ///
    /// # Errors
    /// Returns an error if the namespace cannot be read, unless it is protected.
    pub async fn of(client: &Client, namespace: &str) -> Result<Self, CallError> {
        let (annotations, policy) = tokio::join!(apply::annotations(client, namespace), installed(client));
        if matches!(&annotations, Err(error) if error.code() == Some(404)) {
            return Ok(Self::NoNamespace);
        }
        if let Some(forbidden) = protection(namespace, policy.as_ref()) {
            return Ok(Self::Protected(forbidden.sentence));
        }
        let annotations = annotations?;
        if Consent::parse(&annotations) != Consent::Yes {
            return Ok(Self::NotOptedIn);
        }
        let expires = annotations.get(&Key::Expires.annotation()).and_then(|text| text.parse().ok());
        let expired = expires.filter(|expires: &Timestamp| *expires <= SystemClock.wall());
        Ok(expired.map_or(Self::Unwritten, Self::Expired))
    }

    /// The reason as a sentence, with the command that helps if there is one.
    #[must_use]
    pub fn told(&self, target: &Target, namespace: &str) -> String {
        let on = |more: &[&str]| suggest::chaos(target, &[&["on", namespace], more].concat());
        match self {
            Self::NoNamespace => format!("there is no namespace {namespace}"),
            Self::Protected(sentence) => sentence.clone(),
            Self::NotOptedIn => {
                format!("namespace {namespace} has not opted in; to opt it in, run: {}", on(&[]))
            }
            Self::Expired(end) => format!(
                "the opt-in of namespace {namespace} expired at {end}; to renew it until a later instant, \
                 run: {}",
                on(&["--expires", "INSTANT"])
            ),
            Self::Unwritten => format!(
                "namespace {namespace} opted in, but the webhook has not written its record yet; to see \
                 whether the webhook runs, run: {}",
                suggest::kubectl(target, &["-n", "pure-chaos", "get", "pods"])
            ),
        }
    }
}

/// The platform's policy that is installed in the cluster. `None` if it cannot be read within 2 s,
/// such as by a user without the right to read it.
pub async fn installed(client: &Client) -> Option<PlatformPolicy> {
    tokio::time::timeout(LOOK, policy_config_map::read(client)).await.ok()?.ok()
}

//! Reads the Namespaces that decide about a kill. Nothing here comes from a cache.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use policy::eligibility::NamespaceView;
use policy::kill_gate::halt;
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use policy::settings::Settings;
use policy::well_known::SYSTEM_NAMESPACE;
use runtime::client::{CallError, call};

use crate::guard::namespace::{Forbidden, by_record, permitted};
use crate::refusal::Refusal;

/// The two Namespaces that decide about a kill: the namespace itself, and `pure-chaos` for the halt
/// of the whole cluster. Either may be unreadable.
#[derive(Debug)]
pub struct LiveConsent {
    name: String,
    namespace: Result<NamespaceView, CallError>,
    system: Option<NamespaceView>,
}

/// Why nothing may be killed in a namespace.
#[derive(Debug)]
pub enum NotPermitted {
    /// A guard refuses.
    Refused(Forbidden),
    /// The agent could not read the Namespace, so the answer is unknown. The text says why.
    Unreadable(String),
}

impl LiveConsent {
    /// Whether the live Namespaces permit a kill at `now`, compared with this record. Returns the
    /// settings to use.
    ///
    /// # Errors
    /// [`NotPermitted`] with the reason.
    pub fn permits(
        self,
        record: &OptInSpec,
        policy: &PlatformPolicy,
        now: Timestamp,
    ) -> Result<Settings, NotPermitted> {
        let Self { name, namespace, system } = self;
        let namespace = namespace.map_err(|error| {
            let sentence = format!("failed to read namespace {name}: {error}");
            let refused = |refusal| NotPermitted::Refused(Forbidden { refusal, sentence: sentence.clone() });
            match error.code() {
                // The halt comes first, whatever else is wrong.
                _ if system.as_ref().is_none_or(|system| halt(system).is_some()) => refused(Refusal::Halted),
                // Without an admitted opt-in the agent has no rights either.
                Some(403) if record.verdict != Verdict::Admitted => {
                    NotPermitted::Refused(by_record(record, &name))
                }
                Some(403) => refused(Refusal::NoRights),
                Some(404) => refused(Refusal::NamespaceTerminating),
                _ => NotPermitted::Unreadable(sentence),
            }
        })?;
        permitted(record, &namespace, system.as_ref(), policy, now).map_err(NotPermitted::Refused)
    }
}

/// Reads both Namespaces live.
pub async fn authority(client: &Client, namespace: &str) -> LiveConsent {
    let (live, system) =
        tokio::join!(read_namespace(client, namespace), read_namespace(client, SYSTEM_NAMESPACE));
    LiveConsent { name: namespace.to_owned(), namespace: live, system: system.ok() }
}

/// Reads one Namespace live.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn read_namespace(client: &Client, name: &str) -> Result<NamespaceView, CallError> {
    let api: Api<Namespace> = Api::all(client.clone());
    call(api.get(name)).await.map(|namespace| namespace_view(namespace.metadata))
}

/// Whether a namespace is being deleted or is gone. Such a namespace often loses the agent's rights
/// before its Pods. So callers ask this when the API server refuses something.
pub async fn is_going(client: &Client, name: &str) -> bool {
    match read_namespace(client, name).await {
        Ok(namespace) => namespace.terminating,
        Err(error) => error.code() == Some(404),
    }
}

/// The view of a Namespace that the rules need. All of it is in the metadata.
#[must_use]
pub fn namespace_view(metadata: ObjectMeta) -> NamespaceView {
    NamespaceView {
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        terminating: metadata.deletion_timestamp.is_some(),
        annotations: metadata.annotations.unwrap_or_default(),
    }
}

//! Reads a namespace live for a round. Nothing here comes from a cache.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::{PartialObjectMeta, Selector};
use kube::{Api, Client, ResourceExt};
use policy::eligibility::NamespaceView;
use policy::kill_gate::halt;
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use policy::settings::Settings;
use policy::well_known::SYSTEM_NAMESPACE;
use runtime::client::{CallError, call};
use serde::de::DeserializeOwned;

use crate::cluster::pods::{PAGE, SlimPod};
use crate::cluster::snapshot::{BudgetView, NamespaceSnapshot, PodView, WorkloadView};
use crate::cluster::workloads::{Kind, Slim, replica_sets};
use crate::guard::namespace::{Forbidden, not_admitted, permitted};
use crate::refusal::Refusal;

/// The most pages of a list: 100,000 objects in one namespace. A longer list counts as endless.
const MOST_PAGES: usize = 1_000;

/// How long all lists of one look may take together.
const LOOK_DEADLINE: Duration = Duration::from_secs(20);

/// Why a list could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
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

impl ObserveError {
    /// Whether the agent lacks the right for the list.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Call { cause, .. } if cause.code() == Some(403))
    }
}

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
                    NotPermitted::Refused(not_admitted(&name))
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

/// Lists the Pods, workloads and PodDisruptionBudgets of a namespace. If `nodes` is true, also
/// lists the cordoned nodes.
///
/// # Errors
/// When any of the lists can't be completed in time. Then nothing may be decided.
pub async fn observe(
    client: &Client,
    namespace: &str,
    nodes: bool,
) -> Result<NamespaceSnapshot, ObserveError> {
    let lists = tokio::time::timeout(LOOK_DEADLINE, list_each(client, namespace, nodes));
    lists.await.unwrap_or(Err(ObserveError::TooSlow))
}

async fn list_each(client: &Client, namespace: &str, nodes: bool) -> Result<NamespaceSnapshot, ObserveError> {
    let (pods, deployments, stateful_sets, daemon_sets, controllers, replica_sets, budgets, cordoned) = tokio::try_join!(
        list::<SlimPod>(client, namespace),
        workloads::<Deployment>(client, namespace),
        workloads::<StatefulSet>(client, namespace),
        workloads::<DaemonSet>(client, namespace),
        workloads::<ReplicationController>(client, namespace),
        replica_sets(client, namespace),
        list::<PodDisruptionBudget>(client, namespace),
        cordoned(client, nodes),
    )?;
    let workloads = [deployments, stateful_sets, daemon_sets, controllers].into_iter().flatten();
    Ok(NamespaceSnapshot {
        pods: pods.into_iter().map(PodView::from).collect(),
        workloads: workloads.map(|workload| (workload.reference.uid.clone(), workload)).collect(),
        replica_sets: replica_sets.into_iter().map(|set| (set.workload.reference.uid.clone(), set)).collect(),
        budgets: budgets.iter().filter_map(budget).collect(),
        cordoned,
    })
}

async fn workloads<K: Kind>(client: &Client, namespace: &str) -> Result<Vec<WorkloadView>, ObserveError> {
    Ok(list::<Slim<K>>(client, namespace).await?.iter().map(Slim::view).collect())
}

async fn cordoned(client: &Client, may_read: bool) -> Result<BTreeSet<String>, ObserveError> {
    if !may_read {
        return Ok(BTreeSet::new());
    }
    let only = ListParams::default().fields("spec.unschedulable=true");
    let nodes = list_all::<PartialObjectMeta<Node>>(&Api::all(client.clone()), only).await?;
    Ok(nodes.iter().map(ResourceExt::name_any).collect())
}

/// The view of a PodDisruptionBudget. `None` if it has no selector, because it then covers no Pod.
/// If its status is out of date, the API server decides about the eviction.
fn budget(budget: &PodDisruptionBudget) -> Option<BudgetView> {
    let selector = budget.spec.as_ref()?.selector.clone()?;
    let status = budget.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation) >= budget.metadata.generation;
    Some(BudgetView {
        selector: Selector::try_from(selector).ok(),
        exhausted: observed && status.is_some_and(|status| status.disruptions_allowed.unwrap_or(0) <= 0),
    })
}

/// Lists all objects of a kind in a namespace, page by page.
///
/// # Errors
/// When the list can't be completed.
pub async fn list<K>(client: &Client, namespace: &str) -> Result<Vec<K>, ObserveError>
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
pub async fn list_all<K>(api: &Api<K>, parameters: ListParams) -> Result<Vec<K>, ObserveError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    list_with_version(api, parameters).await.map(|(all, _)| all)
}

/// Does the same as [`list_all`], and also returns the version from which a watch can continue.
///
/// # Errors
/// When the list can't be completed.
pub async fn list_with_version<K>(
    api: &Api<K>,
    parameters: ListParams,
) -> Result<(Vec<K>, String), ObserveError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let what = || K::plural(&()).into_owned();
    let mut parameters = parameters.limit(PAGE);
    let mut all = Vec::new();
    for _ in 0..MOST_PAGES {
        let page =
            call(api.list(&parameters)).await.map_err(|cause| ObserveError::Call { what: what(), cause })?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok((all, page.metadata.resource_version.unwrap_or_default())),
        }
    }
    Err(ObserveError::Endless(what()))
}

//! Kills one Pod. The agent first reads the Namespaces and the Pod once more, and then sends an
//! eviction or a DELETE with preconditions, so that the request can only hit this Pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};
use policy::platform::PlatformPolicy;
use policy::record::OptInSpec;
use policy::settings::{Mode, Settings};
use runtime::client::{CallError, call, is_terminating};
use runtime::clock::Clock;
use runtime::text::without_paths;
use strum::{IntoStaticStr, VariantArray};
use tokio::time::Instant;

use crate::cluster::live_consent::{self, NotPermitted};
use crate::cluster::pods::SlimPod;
use crate::cluster::snapshot::{NamespaceSnapshot, PodView};
use crate::guard::namespace::{Forbidden, without_right};
use crate::guard::pods::{Candidate, GuardContext, screen_again};
use crate::leader_election::lease::Leadership;
use crate::refusal::Refusal;

/// The pauses between lookups of a Pod after a kill without a clear answer. The first lookup
/// happens at once. Together the pauses exceed the 10 s for which the API server may still work on
/// an eviction.
const LOOKS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(5)];

/// Why the API server did not carry out a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Failure {
    /// One of the locks, RBAC or another admission plugin refused the request.
    Forbidden,
    /// The Pod did not exist any more.
    NotFound,
    /// More than one PodDisruptionBudget covers the Pod.
    PdbMisconfigured,
    /// The API server failed, and the Pod is still alive.
    ServerError,
    /// The API server gave no answer, and the agent could not find out whether the Pod was killed.
    UnknownOutcome,
}

impl Failure {
    /// All failures.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// The result of an attempt to kill a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The API server accepted the kill.
    Killed,
    /// The API server would have accepted the kill.
    DryRun,
    /// A guard or the API server refused the kill. The text says why.
    Refused(Refusal, String),
    /// The agent sent nothing, because another process may lead.
    NotLeading,
    /// The attempt failed. The text says how.
    Failed(Failure, String),
}

impl From<Forbidden> for Attempt {
    fn from(Forbidden { refusal, sentence }: Forbidden) -> Self {
        Self::Refused(refusal, sentence)
    }
}

/// What all kills of a round have in common.
#[derive(Clone, Copy)]
pub struct KillContext<'a> {
    /// The name of the namespace.
    pub namespace: &'a str,
    /// The spec of the record, as the round read it live at its beginning.
    pub record: &'a OptInSpec,
    /// The platform's policy.
    pub policy: &'a PlatformPolicy,
    /// Tells whether the opt-in has expired and whether this process still leads.
    pub clock: &'a dyn Clock,
    /// Tells whether this process leads.
    pub leadership: &'a Leadership,
    /// Whether to do everything except the kill, whatever the settings say.
    pub dry_run: bool,
    /// The namespace as the round last listed it.
    pub observation: &'a NamespaceSnapshot,
    /// The other inputs of the guards.
    pub guard_context: &'a GuardContext<'a>,
}

/// Tries to kill one candidate. Before that, it reads the Namespaces and the Pod once more, but not
/// the workload: the workload is as the round's last look found it.
///
/// `asked` becomes the instant just before the request. A Pod that appears during the reads is not
/// the victim's replacement.
///
/// This function never retries. The API server charges a PodDisruptionBudget before it checks
/// preconditions, so retries would use up the budget.
pub async fn kill(
    client: &Client,
    kill_context: KillContext<'_>,
    candidate: &Candidate,
    asked: &mut Instant,
) -> Attempt {
    let pods: Api<SlimPod> = Api::namespaced(client.clone(), kill_context.namespace);
    let name = &candidate.pod.name;
    let (resource_version, live) = match call(pods.get(name)).await {
        Ok(pod) => {
            let resource_version = pod.meta().resource_version.clone();
            let live = PodView::from(pod);
            if live.uid != candidate.pod.uid {
                return Attempt::Refused(
                    Refusal::Changed,
                    format!("Pod {name} was replaced by another Pod of the same name"),
                );
            }
            // Asks the same guards as before, now for the Pod as it is at this moment.
            match screen_again(&live, kill_context.observation, kill_context.guard_context) {
                Ok(live) => (resource_version, live),
                Err(refusal) => {
                    let sentence =
                        format!("Pod {name} has changed since it was chosen: {}", refusal.meaning());
                    return Attempt::Refused(refusal, sentence);
                }
            }
        }
        Err(error) if error.code() == Some(404) => {
            return Attempt::Refused(Refusal::Changed, format!("Pod {name} is gone"));
        }
        Err(error) if error.code() == Some(403) => {
            let is_going = live_consent::is_going(client, kill_context.namespace).await;
            return without_right(kill_context.namespace, is_going, &error).into();
        }
        Err(error) => {
            return Attempt::Failed(Failure::ServerError, format!("failed to read Pod {name}: {error}"));
        }
    };
    // Checks consent last, so that nothing slow comes between this check and the kill.
    let authority = live_consent::authority(client, kill_context.namespace).await;
    let mut settings =
        match authority.permits(kill_context.record, kill_context.policy, kill_context.clock.wall()) {
            Ok(settings) => settings,
            Err(NotPermitted::Refused(forbidden)) => return forbidden.into(),
            Err(NotPermitted::Unreadable(sentence)) => {
                return Attempt::Failed(Failure::ServerError, sentence);
            }
        };
    settings.dry_run |= kill_context.dry_run;
    let settings = live.narrowed(&settings);
    if !kill_context.leadership.holds(kill_context.clock.monotonic()) {
        return Attempt::NotLeading;
    }
    *asked = kill_context.clock.monotonic();
    let sent = match settings.mode {
        Mode::Evict => evict(client, kill_context.namespace, candidate, resource_version, &settings).await,
        Mode::Delete | Mode::Force => delete(client, kill_context.namespace, candidate, &settings).await,
    };
    match sent {
        Ok(()) if settings.dry_run => Attempt::DryRun,
        Ok(()) => Attempt::Killed,
        // The API server may refuse because the namespace is being deleted, or because the agent's
        // rights there were deleted first.
        Err(error)
            if error.code() == Some(403)
                && (is_terminating(&error)
                    || live_consent::is_going(client, kill_context.namespace).await) =>
        {
            Attempt::Refused(Refusal::NamespaceTerminating, error.to_string())
        }
        Err(error) => match verdict(&error) {
            Some(attempt) => attempt,
            None if settings.dry_run => Attempt::Failed(Failure::ServerError, error.to_string()),
            None => look_up(&pods, candidate, &error).await,
        },
    }
}

async fn evict(
    client: &Client,
    namespace: &str,
    candidate: &Candidate,
    resource_version: Option<String>,
    settings: &Settings,
) -> Result<(), CallError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let name = &candidate.pod.name;
    let dry_run = settings.dry_run;
    let dry = dry_run.then(|| vec!["All".to_owned()]);
    // Does not use `Api::evict`: it sends the field `delete_options`, which the API server ignores,
    // including the preconditions.
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions { uid: Some(candidate.pod.uid.clone()), resource_version }),
            grace_period_seconds: grace(settings).map(i64::from),
            dry_run: dry,
            ..DeleteOptions::default()
        }),
    };
    let parameters = PostParams { dry_run, ..PostParams::default() };
    let answer =
        pods.create_subresource::<Eviction, serde_json::Value>("eviction", name, &parameters, &eviction);
    call(answer).await.map(|_| ())
}

async fn delete(
    client: &Client,
    namespace: &str,
    candidate: &Candidate,
    settings: &Settings,
) -> Result<(), CallError> {
    let pods: Api<SlimPod> = Api::namespaced(client.clone(), namespace);
    let parameters = DeleteParams {
        dry_run: settings.dry_run,
        grace_period_seconds: grace(settings),
        preconditions: Some(kube::api::Preconditions {
            uid: Some(candidate.pod.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    call(pods.delete(&candidate.pod.name, &parameters)).await.map(|_| ())
}

/// The grace period in seconds. `None` means the grace period of the Pod.
fn grace(settings: &Settings) -> Option<u32> {
    match settings.mode {
        Mode::Force => Some(0),
        Mode::Evict | Mode::Delete => {
            settings.grace_period.map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX))
        }
    }
}

/// The result that an error of the API server stands for. `None` if the API server gave no answer
/// or failed midway, so that the Pod may have been killed.
fn verdict(error: &CallError) -> Option<Attempt> {
    let status = error.status()?;
    let words = without_paths(&status.message);
    match status.code {
        404 => Some(Attempt::Failed(Failure::NotFound, words)),
        409 => Some(Attempt::Refused(Refusal::Changed, words)),
        429 if is_disruption_budget(status) => Some(Attempt::Refused(Refusal::BlockedByPdb, words)),
        // API Priority and Fairness rejected the request before the API server did anything.
        429 => Some(Attempt::Failed(Failure::ServerError, words)),
        500 if words.contains("more than one PodDisruptionBudget") => {
            let what = "Remove all but one: until then, nobody can evict the Pod or drain its node.";
            Some(Attempt::Failed(Failure::PdbMisconfigured, format!("{words} {what}")))
        }
        // The API server gave up midway.
        408 => None,
        // A lock, RBAC or another admission plugin refused the request. Plugins can choose any of
        // these codes. The API server did nothing.
        400..500 => Some(Attempt::Failed(Failure::Forbidden, words)),
        _ => None,
    }
}

fn is_disruption_budget(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "DisruptionBudget")
}

/// Finds out whether the Pod was killed, after the API server gave no answer or failed midway. It
/// reports the Pod as alive only when the request can no longer be under way.
async fn look_up(pods: &Api<SlimPod>, candidate: &Candidate, error: &CallError) -> Attempt {
    let mut looked = is_killed(pods, &candidate.pod.name, &candidate.pod.uid).await;
    for pause in LOOKS {
        if matches!(looked, Ok(true)) {
            break;
        }
        tokio::time::sleep(pause).await;
        looked = is_killed(pods, &candidate.pod.name, &candidate.pod.uid).await;
    }
    match looked {
        Ok(true) => Attempt::Killed,
        Ok(false) => Attempt::Failed(Failure::ServerError, error.to_string()),
        Err(second) => Attempt::Failed(
            Failure::UnknownOutcome,
            format!("{error}; then failed to look the Pod up: {second}"),
        ),
    }
}

/// Whether the Pod with this UID is gone or is being deleted.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn is_killed(pods: &Api<SlimPod>, name: &str, uid: &str) -> Result<bool, CallError> {
    let pod = call(pods.get_opt(name)).await?;
    Ok(pod.map(PodView::from).is_none_or(|live| live.uid != uid || live.terminating))
}

//! One kill: a last look at what consents and at the Pod, then an eviction or a DELETE that can hit that very Pod only.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};
use policy::platform::PlatformPolicy;
use policy::record::OptInSpec;
use policy::settings::{Mode, Settings};
use runtime::client::{CallError, call};
use runtime::clock::Clock;

use crate::guards::Candidate;
use crate::lease::Leadership;
use crate::observe::{self, NotPermitted};
use crate::permission::Forbidden;
use crate::pods::SlimPod;
use crate::refusal::Refusal;
use crate::views::PodView;

/// How long after a time-out the Pod is looked up. An eviction is worked on for up to 10 s, less than the call's own limit.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Why the API server did not carry out a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A lock or RBAC refused it: our own checks disagree with theirs.
    Forbidden,
    /// The Pod was gone.
    NotFound,
    /// More than one PodDisruptionBudget covers the Pod.
    PdbMisconfigured,
    /// The API server failed, and the Pod lives.
    ServerError,
    /// The API server gave no answer, and what became of the Pod couldn't be found out.
    UnknownOutcome,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Forbidden, Self::NotFound, Self::PdbMisconfigured, Self::ServerError, Self::UnknownOutcome];

    /// The word in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::PdbMisconfigured => "pdb_misconfigured",
            Self::ServerError => "server_error",
            Self::UnknownOutcome => "unknown_outcome",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The API server accepted it.
    Killed,
    /// The API server would have accepted it.
    DryRun,
    /// A guard refused at the last moment.
    Refused(Refusal, String),
    /// Nothing was sent, because another process may lead.
    NotLeading,
    /// It was tried, and failed.
    Failed(Failure, String),
}

/// What each kill of a round has in common.
#[derive(Clone, Copy)]
pub struct Warrant<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The record as read live at the beginning of the round.
    pub record: &'a OptInSpec,
    /// The platform's policy.
    pub policy: &'a PlatformPolicy,
    /// Tells whether an opt-in, or the leadership, has ended.
    pub clock: &'a dyn Clock,
    /// Whether this process leads.
    pub leadership: &'a Leadership,
    /// Everything but the effect, whatever the settings.
    pub dry_run: bool,
}

/// Tries to kill one candidate. There is no second try: see `changed` in the specification.
pub async fn kill(client: &Client, warrant: Warrant<'_>, candidate: &Candidate) -> Attempt {
    let pods: Api<SlimPod> = Api::namespaced(client.clone(), warrant.namespace);
    let name = &candidate.pod.name;
    let resource_version = match call(pods.get(name)).await {
        Ok(pod) => {
            let live = PodView::from(&pod);
            if live.uid != candidate.pod.uid || live.is_lost() || !live.ready {
                return Attempt::Refused(
                    Refusal::Changed,
                    format!("Pod {name} is no longer the one that was chosen"),
                );
            }
            pod.meta().resource_version.clone()
        }
        Err(error) if error.code() == Some(404) => {
            return Attempt::Refused(Refusal::Changed, format!("Pod {name} is gone"));
        }
        Err(error) if error.code() == Some(403) => {
            return Attempt::Refused(Refusal::NoRights, error.to_string());
        }
        Err(error) => {
            return Attempt::Failed(Failure::ServerError, format!("failed to read Pod {name}: {error}"));
        }
    };
    // Consent last: nothing that takes time may come between it and the kill.
    let authority = observe::authority(client, warrant.namespace).await;
    let mut settings = match authority.permits(warrant.record, warrant.policy, warrant.clock.wall()) {
        Ok(settings) => settings,
        Err(NotPermitted::Refused(Forbidden { refusal, sentence })) => {
            return Attempt::Refused(refusal, sentence);
        }
        Err(NotPermitted::Unreadable(sentence)) => return Attempt::Failed(Failure::ServerError, sentence),
    };
    settings.dry_run |= warrant.dry_run;
    if !warrant.leadership.holds(warrant.clock.monotonic()) {
        return Attempt::NotLeading;
    }
    let sent = match settings.mode {
        Mode::Evict => evict(client, warrant.namespace, candidate, resource_version, &settings).await,
        Mode::Delete | Mode::Force => delete(client, warrant.namespace, candidate, &settings).await,
    };
    match sent {
        Ok(()) if settings.dry_run => Attempt::DryRun,
        Ok(()) => Attempt::Killed,
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
    // Not `Api::evict`: it writes `delete_options`, which the API server ignores, preconditions and all.
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

/// The grace period in seconds; `None` is the Pod's own.
fn grace(settings: &Settings) -> Option<u32> {
    match settings.mode {
        Mode::Force => Some(0),
        Mode::Evict | Mode::Delete => {
            settings.grace_period.map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX))
        }
    }
}

/// What an error means where the API server said it; `None` where it did not, or failed midway.
fn verdict(error: &CallError) -> Option<Attempt> {
    let status = error.status()?;
    let words = status.message.clone();
    match status.code {
        403 => Some(Attempt::Failed(Failure::Forbidden, words)),
        404 => Some(Attempt::Failed(Failure::NotFound, words)),
        409 => Some(Attempt::Refused(Refusal::Changed, words)),
        429 if is_disruption_budget(status) => Some(Attempt::Refused(Refusal::BlockedByPdb, words)),
        // Turned away by the API server's own fairness, before anything was done.
        429 => Some(Attempt::Failed(Failure::ServerError, words)),
        500 if words.contains("more than one PodDisruptionBudget") => {
            let what = "Leave it one: until then nobody can evict it, nor drain its node.";
            Some(Attempt::Failed(Failure::PdbMisconfigured, format!("{words} {what}")))
        }
        400..500 => Some(Attempt::Failed(Failure::ServerError, words)),
        _ => None,
    }
}

fn is_disruption_budget(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "DisruptionBudget")
}

/// After no answer, or half of one: whether the Pod of that UID still lives.
async fn look_up(pods: &Api<SlimPod>, candidate: &Candidate, error: &CallError) -> Attempt {
    if matches!(error, CallError::TimedOut(_)) {
        // What is still being worked on there may yet land.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    match is_killed(pods, &candidate.pod.name, &candidate.pod.uid).await {
        Ok(true) => Attempt::Killed,
        Ok(false) => Attempt::Failed(Failure::ServerError, error.to_string()),
        Err(second) => Attempt::Failed(
            Failure::UnknownOutcome,
            format!("{error}; then failed to look the Pod up: {second}"),
        ),
    }
}

/// Whether the Pod of that UID is gone or on its way.
///
/// # Errors
/// When the API server gives no usable answer.
pub async fn is_killed(pods: &Api<SlimPod>, name: &str, uid: &str) -> Result<bool, CallError> {
    let pod = call(pods.get_opt(name)).await?;
    Ok(pod.as_ref().map(PodView::from).is_none_or(|live| live.uid != uid || live.terminating))
}

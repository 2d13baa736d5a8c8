//! The Kubernetes client, and the time limit that every call but a watch has.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// How long one call may take. An eviction may legitimately take 10 s: the API server retries conflicts inside it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a connection may be silent. Watches are asked to end after a minute at most, so silence beyond that means a dead one.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// A call that got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server refused or failed; in its own words where it had any.
    #[error("{}", words(.0))]
    Kube(#[from] kube::Error),
    /// No answer in time: what it did is unknown.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl CallError {
    /// The HTTP status code, where the API server answered.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// The API server's own words for the refusal, where it answered.
    #[must_use]
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

/// Awaits one call to the API server, for at most [`CALL_TIMEOUT`].
///
/// # Errors
/// The client's error, or [`CallError::TimedOut`].
pub async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(CallError::Kube),
        Err(_) => Err(CallError::TimedOut(CALL_TIMEOUT)),
    }
}

/// A client of the kubeconfig's cluster, or of the cluster that this Pod runs in. It never retries by itself: a kill or a
/// lease must be sent once, and what to do after a failure is the caller's decision.
///
/// # Errors
/// When the configuration can't be read or the client not be made.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<kube::Client> {
    let config = match kubeconfig {
        Some(file) => read(file).await?,
        None => kube::Config::incluster()
            .context("failed to find the cluster: not in a Pod with a ServiceAccount; give --kubeconfig")?,
    };
    client(config)
}

/// A client with the rights of a person, as kubectl finds them: of this kubeconfig, of those that `KUBECONFIG` names, of `~/.kube/config`; else
/// of the Pod that this runs in. Of the kubeconfig's current context, unless another is named.
///
/// # Errors
/// When there is none of these, or the client can't be made.
pub async fn connect_as_person(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> anyhow::Result<kube::Client> {
    let config = match (kubeconfig, context) {
        (Some(file), context) => read_context(file, context).await?,
        // Whoever names a context means none but that one.
        (None, Some(context)) => kube::Config::from_kubeconfig(&options(Some(context)))
            .await
            .with_context(|| format!("failed to use context {context}"))?,
        (None, None) => kube::Config::infer()
            .await
            .context("failed to find a cluster: neither a kubeconfig nor a Pod with a ServiceAccount")?,
    };
    client(config)
}

fn options(context: Option<&str>) -> KubeConfigOptions {
    KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() }
}

async fn read(file: &Path) -> anyhow::Result<kube::Config> {
    read_context(file, None).await
}

async fn read_context(file: &Path, context: Option<&str>) -> anyhow::Result<kube::Config> {
    let kubeconfig = Kubeconfig::read_from(file)
        .with_context(|| format!("failed to read kubeconfig {}", file.display()))?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &options(context))
        .await
        .with_context(|| format!("failed to use kubeconfig {}", file.display()))
}

fn client(mut config: kube::Config) -> anyhow::Result<kube::Client> {
    config.default_retry = false;
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).context("failed to make the Kubernetes client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_the_api_server_wrote_it() {
        let status = kube::core::Status {
            message: "pods is forbidden".to_owned(),
            code: 403,
            ..kube::core::Status::default()
        };
        let error = CallError::Kube(kube::Error::Api(Box::new(status)));
        assert_eq!((error.to_string().as_str(), error.code()), ("pods is forbidden (403)", Some(403)));
    }
}

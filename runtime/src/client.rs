//! The Kubernetes client. Each call has a time limit, except watches.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::text::without_paths;
use crate::watch_clients::WatchClients;

/// The longest time for one call. An eviction can take 10 s, because the API server retries
/// conflicts within the request.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest time without data on a connection. Watches ask the API server to end them after at
/// most a minute, so a longer silence means that the connection is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// The error of a call that got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server refused the call, or the call failed. If the API server answered, the message
    /// has its words.
    #[error("{}", words(.0))]
    Kube(#[from] kube::Error),
    /// No answer came within this time. The request may have been carried out all the same.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl CallError {
    /// The HTTP status code, if the API server answered.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// The API server's own description of the refusal, if it answered.
    #[must_use]
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }
}

/// Whether the API server refused the call because the namespace is being deleted. Nothing can be
/// created there any more.
#[must_use]
pub fn is_terminating(error: &CallError) -> bool {
    let details = error.status().and_then(|status| status.details.as_ref());
    details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", without_paths(&status.message), status.code),
        other => other.to_string(),
    }
}

/// Awaits one call to the API server, for at most [`CALL_TIMEOUT`].
///
/// # Errors
/// Returns the client's error, or [`CallError::TimedOut`].
pub async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(CallError::Kube),
        Err(_) => Err(CallError::TimedOut(CALL_TIMEOUT)),
    }
}

/// Makes a client for the cluster of this kubeconfig. Without a kubeconfig, the client is for the
/// cluster that this Pod runs in.
///
/// The client never retries a request. A kill or an update of a Lease must be sent only once, and
/// the caller decides what to do after a failure.
///
/// # Errors
/// Returns an error if the configuration cannot be read, or if the client cannot be made.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<kube::Client> {
    client(cluster(kubeconfig).await?)
}

/// Makes a client like [`connect`] does, and the clients for watches.
///
/// # Errors
/// Returns an error if the configuration cannot be read, or if the client cannot be made.
pub async fn connect_to_watch(kubeconfig: Option<&Path>) -> anyhow::Result<(kube::Client, WatchClients)> {
    let config = cluster(kubeconfig).await?;
    let client = client(config.clone())?;
    let watches = WatchClients::new(config, client.clone());
    Ok((client, watches))
}

async fn cluster(kubeconfig: Option<&Path>) -> anyhow::Result<kube::Config> {
    match kubeconfig {
        Some(file) => configured(read(file)?, None)
            .await
            .with_context(|| format!("failed to use kubeconfig {}", file.display())),
        None => kube::Config::incluster()
            .context("failed to find the cluster: not in a Pod with a ServiceAccount; give --kubeconfig"),
    }
}

/// Makes a client with the rights of a person, and finds the kubeconfig as kubectl does: the given
/// file, the files that `KUBECONFIG` names, or `~/.kube/config`. If there is none, the client is
/// for the cluster that this Pod runs in.
///
/// The client uses the kubeconfig's current context, unless `context` names another one.
///
/// # Errors
/// Returns an error if there is no configuration, if one cannot be read or used, or if the client
/// cannot be made.
pub async fn connect_as_person(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> anyhow::Result<kube::Client> {
    let config = match (of_person(kubeconfig)?, context) {
        (Some(kubeconfig), context) => configured(kubeconfig, context).await?,
        // A person who names a context means only that one, so do not fall back to the Pod's
        // cluster.
        (None, Some(context)) => anyhow::bail!("failed to use context {context}: there is no kubeconfig"),
        (None, None) => kube::Config::incluster()
            .context("failed to find a cluster: neither a kubeconfig nor a Pod with a ServiceAccount")?,
    };
    client(config)
}

/// The names of the contexts that a person can choose.
///
/// # Errors
/// Returns an error if a kubeconfig cannot be read.
pub fn contexts(kubeconfig: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let contexts = of_person(kubeconfig)?.map(|kubeconfig| kubeconfig.contexts).unwrap_or_default();
    Ok(contexts.into_iter().map(|context| context.name).collect())
}

/// The kubeconfig of a person. `None` if no file is named and `~/.kube/config` does not exist.
fn of_person(file: Option<&Path>) -> anyhow::Result<Option<Kubeconfig>> {
    if let Some(file) = file {
        return read(file).map(Some);
    }
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let named: Vec<PathBuf> =
        std::env::split_paths(&named).filter(|file| !file.as_os_str().is_empty()).collect();
    if named.is_empty() {
        let usual = std::env::home_dir().map(|home| home.join(".kube").join("config"));
        return usual.map_or(Ok(None), |file| read_if_there(&file));
    }
    fold(&named).map(Some)
}

/// Merges several kubeconfigs by kubectl's rules: the first file that sets a value wins, and a
/// missing file is skipped.
fn fold(files: &[PathBuf]) -> anyhow::Result<Kubeconfig> {
    let mut folded: Option<Kubeconfig> = None;
    for file in files {
        let Some(next) = read_if_there(file)? else { continue };
        folded = Some(match folded {
            Some(before) => before
                .merge(next)
                .with_context(|| format!("failed to add kubeconfig {} to those before it", file.display()))?,
            None => next,
        });
    }
    folded.with_context(|| {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        format!("failed to find a kubeconfig: KUBECONFIG names {}, and there is none", names.join(", "))
    })
}

fn read_if_there(file: &Path) -> anyhow::Result<Option<Kubeconfig>> {
    match Kubeconfig::read_from(file) {
        Ok(mut kubeconfig) => {
            // kubectl writes an empty text if there is no current context.
            kubeconfig.current_context = kubeconfig.current_context.filter(|name| !name.is_empty());
            Ok(Some(kubeconfig))
        }
        Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to read kubeconfig {}", file.display())),
    }
}

fn read(file: &Path) -> anyhow::Result<Kubeconfig> {
    read_if_there(file)?
        .with_context(|| format!("failed to read kubeconfig {}: there is no such file", file.display()))
}

async fn configured(kubeconfig: Kubeconfig, context: Option<&str>) -> anyhow::Result<kube::Config> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.with_context(|| match context {
        Some(context) => format!("failed to use context {context} of the kubeconfig"),
        None => "failed to use the kubeconfig's current context".to_owned(),
    })
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

    #[test]
    fn kubeconfigs_are_folded_as_kubectl_folds_them() {
        let folder = std::env::temp_dir().join(format!("kubeconfigs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let first =
            write("first", "current-context: ''\ncontexts: [{name: a, context: {cluster: first, user: u}}]");
        let second = write(
            "second",
            "current-context: b\ncontexts: [{name: a, context: {cluster: second, user: u}}, {name: b}]",
        );
        let broken = write("broken", "contexts: {");
        let missing = folder.join("missing");

        let folded = fold(&[missing.clone(), first.clone(), second]).unwrap();
        assert_eq!(folded.current_context.as_deref(), Some("b"), "an empty one says nothing");
        let names: Vec<_> = folded.contexts.iter().map(|context| context.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(folded.contexts[0].context.as_ref().unwrap().cluster, "first");
        for (files, words) in [(vec![first, broken], "broken"), (vec![missing], "missing")] {
            let error = fold(&files).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

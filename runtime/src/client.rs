//! The Kubernetes client, and the time limit that every call but a watch has.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

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
        Some(file) => configured(read(file)?, None)
            .await
            .with_context(|| format!("failed to use kubeconfig {}", file.display()))?,
        None => kube::Config::incluster()
            .context("failed to find the cluster: not in a Pod with a ServiceAccount; give --kubeconfig")?,
    };
    client(config)
}

/// A client with the rights of a person, as kubectl finds them: of this kubeconfig, of those that `KUBECONFIG` names, of `~/.kube/config`; where there is
/// none of them, of the Pod that this runs in. Of the kubeconfig's current context, unless another is named.
///
/// # Errors
/// When there is none of these, one can't be read or used, or the client can't be made.
pub async fn connect_as_person(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> anyhow::Result<kube::Client> {
    let config = match (of_person(kubeconfig)?, context) {
        (Some(kubeconfig), context) => configured(kubeconfig, context).await?,
        // Whoever names a context means none but that one.
        (None, Some(context)) => anyhow::bail!("failed to use context {context}: there is no kubeconfig"),
        (None, None) => kube::Config::incluster()
            .context("failed to find a cluster: neither a kubeconfig nor a Pod with a ServiceAccount")?,
    };
    client(config)
}

/// The names of the contexts that a person can choose from.
///
/// # Errors
/// When a kubeconfig can't be read.
pub fn contexts(kubeconfig: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let contexts = of_person(kubeconfig)?.map(|kubeconfig| kubeconfig.contexts).unwrap_or_default();
    Ok(contexts.into_iter().map(|context| context.name).collect())
}

/// The kubeconfig of a person; none where nobody named one and there is no `~/.kube/config`.
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

/// Several kubeconfigs as one, by kubectl's rules: the first to say something wins, and one that isn't there says nothing.
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
            // Empty is how kubectl writes that there is none.
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

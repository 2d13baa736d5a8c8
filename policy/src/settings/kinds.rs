//! The kinds of workload whose Pods may be killed.

use std::fmt;

/// Kinds of workload that say how many Pods they want.
const SIZED: [&str; 5] = ["Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "ReplicationController"];
/// Further kinds, whose Pods are made by ReplicaSets. The ReplicaSets say how many Pods are wanted.
const BY_REPLICA_SETS: [&str; 1] = ["Rollout"];
/// Kinds whose Pods do a piece of work and end. Killing such a Pod measures no recovery.
const WORK: [&str; 2] = ["Job", "CronJob"];
/// Words that are not kinds of workload, but are easily taken for one.
const NO_WORKLOADS: [&str; 16] = [
    "Pod",
    "Service",
    "Node",
    "Namespace",
    "Container",
    "ConfigMap",
    "Secret",
    "Ingress",
    "Endpoint",
    "PersistentVolumeClaim",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Workload",
    "All",
    "Any",
    "Everything",
];
/// The longest kind that is accepted, and the most characters that a message quotes of a longer
/// word.
const QUOTED: usize = 63;

/// A list of at least one kind, in the order in which the kinds were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(Vec<String>);

impl Kinds {
    /// Reads kinds joined with commas. Returns `None` if one of them cannot be a kind of workload.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut kinds = Vec::new();
        for kind in words(text) {
            if slip(kind).is_some() {
                return None;
            }
            if kinds.iter().all(|known| known != kind) {
                kinds.push(kind.to_owned());
            }
        }
        Some(Self(kinds))
    }

    /// Says what is wrong with the first word for which there is more to say than
    /// [`Key::expected`](crate::settings::Key::expected) does.
    #[must_use]
    pub fn advice(text: &str) -> Option<String> {
        let quoted = |kind: &str| kind.chars().take(QUOTED).collect::<String>();
        words(text).find_map(|kind| match slip(kind)? {
            Slip::AsExpectedSays => None,
            Slip::NoWorkload => Some(format!("`{}` is not a kind of workload", quoted(kind))),
            Slip::Near(known) => Some(format!("`{}` is not known; did you mean `{known}`?", quoted(kind))),
        })
    }

    /// Whether Kubernetes itself has this kind of workload, so that the agent knows how many Pods it
    /// wants.
    #[must_use]
    pub fn are_built_in(kind: &str) -> bool {
        SIZED.contains(&kind)
    }

    /// Whether the list contains `kind`.
    #[must_use]
    pub fn contain(&self, kind: &str) -> bool {
        self.0.iter().any(|known| known == kind)
    }

    /// The kinds in the list for which Pure Chaos cannot tell how many Pods they want.
    pub fn of_unknown_size(&self) -> impl Iterator<Item = &str> {
        let is_known =
            |kind: &&String| SIZED.iter().chain(&BY_REPLICA_SETS).any(|known| *known == kind.as_str());
        self.0.iter().filter(move |kind| !is_known(kind)).map(String::as_str)
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// Why a word cannot be a kind of workload.
enum Slip {
    /// [`Key::expected`](crate::settings::Key::expected) says all that there is to say.
    AsExpectedSays,
    NoWorkload,
    Near(&'static str),
}

fn slip(kind: &str) -> Option<Slip> {
    let starts_as_a_kind = kind.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
    if kind.is_empty() || kind.len() > QUOTED || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Some(Slip::AsExpectedSays);
    }
    if SIZED.iter().chain(&BY_REPLICA_SETS).any(|known| *known == kind) {
        return None;
    }
    let lower = kind.to_ascii_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    let is_among = |words: &[&str]| {
        words.iter().any(|word| [lower.as_str(), singular].contains(&word.to_ascii_lowercase().as_str()))
    };
    if is_among(&NO_WORKLOADS) {
        return Some(Slip::NoWorkload);
    }
    if is_among(&WORK) {
        return Some(Slip::AsExpectedSays);
    }
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase());
    let near = SIZED.into_iter().chain(BY_REPLICA_SETS).min_by_key(|known| distance(known));
    // At most two letters may differ. A word that differs more may be the kind of a custom
    // resource.
    match near.filter(|known| distance(known) <= 2) {
        Some(known) => Some(Slip::Near(known)),
        None => (!starts_as_a_kind).then_some(Slip::AsExpectedSays),
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self(["Deployment", "StatefulSet", "ReplicaSet"].map(str::to_owned).to_vec())
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_no_kind_and_somebodys_own_kind_is_one() {
        for (text, advice) in [
            ("Deploymnet", "`Deploymnet` is not known; did you mean `Deployment`?"),
            ("StatefulSet,deployment", "`deployment` is not known; did you mean `Deployment`?"),
            ("Deployments", "`Deployments` is not known; did you mean `Deployment`?"),
            ("Replicaset", "`Replicaset` is not known; did you mean `ReplicaSet`?"),
            ("DeamonSet", "`DeamonSet` is not known; did you mean `DaemonSet`?"),
            ("Rollouts", "`Rollouts` is not known; did you mean `Rollout`?"),
            ("Pods", "`Pods` is not a kind of workload"),
            ("Deployment,Service", "`Service` is not a kind of workload"),
            ("all", "`all` is not a kind of workload"),
        ] {
            assert_eq!(Kinds::parse(text), None, "{text}");
            assert_eq!(Kinds::advice(text).as_deref(), Some(advice));
        }
        for malformed in
            ["", "Job", "Deployment,CronJobs", "Deployment,", "my kind", "x", "Deployment;StatefulSet"]
        {
            assert_eq!((Kinds::parse(malformed), Kinds::advice(malformed)), (None, None), "{malformed}");
        }
        let kinds = Kinds::parse("Deployment, DaemonSet,Rollout,CloneSet,SandboxSet,CloneSet").unwrap();
        assert_eq!(kinds.to_string(), "Deployment,DaemonSet,Rollout,CloneSet,SandboxSet");
        assert_eq!(kinds.of_unknown_size().collect::<Vec<_>>(), ["CloneSet", "SandboxSet"]);
    }
}

//! The audit logs of the local clusters' API servers: what the accounts of `pure-chaos` asked for,
//! whether the API server allowed it, and when.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::kubeconfig;

/// The folder of the test cluster, with its kubeconfigs and logs.
pub fn folder() -> PathBuf {
    Path::new(&kubeconfig()).parent().unwrap().to_owned()
}

/// All audit logs of a cluster: of the first API server, of the second one if it has run, and the
/// files to which they rotated large logs.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let is_log = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.starts_with("audit") && name.ends_with(".log")
    };
    files.filter(is_log).collect()
}

/// One request that was answered. A watch appears twice: once when it begins and once when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The account's name within `pure-chaos`: `agent`, `webhook` or `certs`.
    pub account: String,
    /// Whether a Pod sent the request. Kubernetes notes the Pod that a token was made for, so a
    /// test with a token of its own is told apart.
    pub by_pod: bool,
    /// `get`, `list`, `deletecollection`, …
    pub verb: String,
    /// The API group, empty for the core.
    pub group: String,
    /// The resource, with its subresource as in RBAC: `pods/eviction`. Empty if the request names
    /// no resource.
    pub resource: String,
    /// The namespace, empty if there is none.
    pub namespace: String,
    /// The object's name, empty if there is none or it is not known yet.
    pub name: String,
    /// The path with its query.
    pub uri: String,
    /// The HTTP status of the answer.
    pub code: u64,
    /// The answer's message, if the request was refused or failed.
    pub message: String,
    /// Whether RBAC allowed the request.
    pub allowed: bool,
    /// The binding and the role that allowed the request, in the API server's words.
    pub reason: String,
    /// When the API server received the request.
    pub received: Timestamp,
    /// When the API server had answered the request.
    pub answered: Timestamp,
}

impl Request {
    /// Reads a line of an audit log. Returns `None` for a line that isn't an answer to an account
    /// of `pure-chaos`.
    pub fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let resource = match text("/objectRef/subresource").as_str() {
            "" => text("/objectRef/resource"),
            subresource => format!("{}/{subresource}", text("/objectRef/resource")),
        };
        Some(Self {
            account: text("/user/username").strip_prefix("system:serviceaccount:pure-chaos:")?.to_owned(),
            by_pod: event.pointer("/user/extra/authentication.kubernetes.io~1pod-name").is_some(),
            verb: text("/verb"),
            group: text("/objectRef/apiGroup"),
            resource,
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            uri: text("/requestURI"),
            code: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or(0),
            message: text("/responseStatus/message"),
            allowed: text("/annotations/authorization.k8s.io~1decision") == "allow",
            reason: text("/annotations/authorization.k8s.io~1reason"),
            received: text("/requestReceivedTimestamp").parse().ok()?,
            answered: text("/stageTimestamp").parse().ok()?,
        })
    }

    /// Whether the request asked to end a Pod for real, and not as a dry run.
    pub fn is_kill(&self) -> bool {
        let kills = (self.verb == "delete" && self.resource == "pods")
            || (self.verb == "create" && self.resource == "pods/eviction");
        kills && !self.uri.contains("dryRun")
    }

    /// Whether the request succeeded.
    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// The requests of our accounts in a log, from this byte on.
fn requests_in(log: &Path, offset: u64) -> Vec<Request> {
    let mut file = File::open(log).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    BufReader::new(file).lines().filter_map(|line| Request::parse(&line.unwrap())).collect()
}

/// All requests so far, for each cluster that `make test` booted: `test`, and those whose names
/// begin with that name.
pub fn requests_by_cluster() -> Vec<Vec<Request>> {
    let this = folder();
    let name = this.file_name().unwrap().to_string_lossy();
    let is_ours = |folder: &PathBuf| folder.file_name().unwrap().to_string_lossy().starts_with(&*name);
    let clusters = std::fs::read_dir(this.parent().unwrap()).unwrap().map(|folder| folder.unwrap().path());
    clusters
        .filter(is_ours)
        .map(|cluster| logs(&cluster).iter().flat_map(|log| requests_in(log, 0)).collect())
        .collect()
}

/// A position in the audit logs, from which a test reads on.
pub struct Mark {
    logs: Vec<(PathBuf, u64)>,
}

impl Mark {
    /// The end of all logs.
    pub fn now() -> Self {
        let end = |log: PathBuf| (log.clone(), log.metadata().unwrap().len());
        Self { logs: logs(&folder()).into_iter().map(end).collect() }
    }

    /// All requests since then, in no order.
    pub fn requests(&self) -> Vec<Request> {
        // If the API server has rotated a log since, the position would be in another file.
        let number = logs(&folder()).len();
        assert_eq!(number, self.logs.len(), "an audit log was put aside meanwhile, or is new");
        self.logs.iter().flat_map(|(log, offset)| requests_in(log, *offset)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVICTION: &str = r#"{"stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods/p/eviction","verb":"create",
        "user":{"username":"system:serviceaccount:pure-chaos:agent","extra":{"authentication.kubernetes.io/pod-name":["agent-1"]}},
        "objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"eviction"},
        "responseStatus":{"code":201},"requestReceivedTimestamp":"2026-11-23T07:02:18.611797Z",
        "stageTimestamp":"2026-11-23T07:02:18.634107Z","annotations":{"authorization.k8s.io/decision":"allow"}}"#;

    #[test]
    fn an_accepted_kill() {
        let request = Request::parse(EVICTION).unwrap();
        assert!(request.is_kill() && request.is_accepted() && request.by_pod && request.allowed);
        assert_eq!((request.account.as_str(), request.resource.as_str()), ("agent", "pods/eviction"));
        assert_eq!(request.answered.duration_since(request.received).as_micros(), 22_310);
    }

    #[test]
    fn what_is_no_kill() {
        for (from, to) in
            [("/eviction\"", "/eviction?dryRun=All\""), ("\"create\"", "\"get\""), ("eviction", "log")]
        {
            assert!(!Request::parse(&EVICTION.replace(from, to)).unwrap().is_kill(), "{to}");
        }
        assert!(!Request::parse(&EVICTION.replace("201", "403")).unwrap().is_accepted());
        assert_eq!(Request::parse(&EVICTION.replace("pure-chaos", "other")), None);
    }
}

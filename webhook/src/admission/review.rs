//! Reads and writes `AdmissionReview` of admission.k8s.io/v1. This module does not decide what is
//! allowed.
//!
//! The webhook has its own types instead of kube's, for two reasons. The types keep only what the
//! rules need, within [`bounds`], so that a review of 6 MiB costs its parsing and no more. And the
//! UID is read even if the rest is not understood, because an answer without the UID looks like a
//! failure of the webhook.

use std::collections::BTreeMap;

use runtime::text::cut;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::admission::bounds::{self, Short, maybe_short, short};
use crate::admission::{field_managers, pod};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// The longest warning, in bytes. kubectl and the API server cut longer ones.
const LONGEST_WARNING: usize = 120;
/// The longest message about a review that is not understood, in bytes. Such a message may repeat
/// any text of the review.
const LONGEST_WHY: usize = 1_000;

/// The request of a review.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// UID of the review, which the answer repeats.
    #[serde(deserialize_with = "short")]
    pub uid: String,
    /// The operation on the object.
    pub operation: Operation,
    /// The resource that the object belongs to.
    pub resource: Resource,
    /// The subresource, such as `eviction`; empty for the object itself.
    #[serde(default, deserialize_with = "short")]
    pub sub_resource: String,
    /// Namespace of the object. For a Namespace, this is its own name.
    #[serde(default, deserialize_with = "short")]
    pub namespace: String,
    /// Name of the object; empty for each object of a DELETE of a collection.
    #[serde(default, deserialize_with = "short")]
    pub name: String,
    /// The user who makes the request.
    #[serde(default)]
    pub user_info: User,
    /// The object as it would be after the request; `None` for a DELETE.
    #[serde(default)]
    pub object: Option<Object>,
    /// The object as it is before the request; `None` for a CREATE.
    #[serde(default)]
    pub old_object: Option<Object>,
    #[serde(default)]
    dry_run: Option<bool>,
    /// The options of a DELETE.
    #[serde(default)]
    options: Option<DeleteOptions>,
}

impl Request {
    /// Returns whether nothing will be stored. An eviction may be a dry run by its own
    /// `deleteOptions` only, while the flag of the request is false.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
            || self
                .object
                .as_ref()
                .and_then(|object| object.delete_options.as_ref())
                .is_some_and(|options| options.is_dry_run)
    }

    /// Returns the requested grace period in seconds. `None` means the Pod's own grace period.
    #[must_use]
    pub fn grace(&self) -> Option<i64> {
        let options = match self.operation {
            Operation::Delete => self.options.as_ref(),
            _ => self.object.as_ref().and_then(|object| object.delete_options.as_ref()),
        };
        options.and_then(|options| options.grace_period_seconds)
    }
}

/// An operation on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, EnumString, IntoStaticStr)]
#[serde(try_from = "Short")]
#[strum(serialize_all = "UPPERCASE")]
pub enum Operation {
    /// Creates the object.
    Create,
    /// Changes the object.
    Update,
    /// Deletes the object.
    Delete,
    /// Connects to the object, as `exec` does. None of the webhook's rules is about this operation.
    Connect,
}

impl TryFrom<Short> for Operation {
    type Error = String;

    fn try_from(Short(word): Short) -> Result<Self, String> {
        word.parse().map_err(|_| format!("unknown variant `{word}`, expected an operation"))
    }
}

impl Operation {
    /// Returns the API's name of the operation.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// A resource of the API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resource {
    /// API group; empty for the core group.
    #[serde(default, deserialize_with = "short")]
    pub group: String,
    /// Plural name, such as `pods`.
    #[serde(deserialize_with = "short")]
    pub resource: String,
}

/// The user who makes a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct User {
    /// User name, such as `system:serviceaccount:pure-chaos:agent`.
    #[serde(default, deserialize_with = "short")]
    pub username: String,
    /// UID of the user, if the API server knows one. The UID tells two users of the same name
    /// apart.
    #[serde(default, deserialize_with = "short")]
    pub uid: String,
    /// The groups that the API server puts the user in.
    #[serde(default, deserialize_with = "bounds::groups")]
    pub groups: Vec<String>,
    /// Extra fields that the authenticator adds.
    #[serde(default, deserialize_with = "bounds::extra")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The parts of an object that the rules need: the metadata of a Namespace, the `deleteOptions` of
/// an Eviction, and the metadata, `spec` and `status` of a Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The metadata of the object.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    delete_options: Option<DeleteOptions>,
    /// The spec, if the object is a Pod. The fields of other specs are ignored.
    #[serde(default)]
    pub spec: Option<pod::Spec>,
    /// The status, if the object is a Pod. The fields of other statuses are ignored.
    #[serde(default)]
    pub status: Option<pod::Status>,
}

/// The parts of an object's metadata that the rules need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name of the object.
    #[serde(default, deserialize_with = "short")]
    pub name: String,
    /// UID of the object; `None` while the object has none yet.
    #[serde(default, deserialize_with = "maybe_short")]
    pub uid: Option<String>,
    /// The annotations that are ours, that [matter](policy::exclusion::matters) on a Pod, or that
    /// are [near a halt](policy::well_known::is_near_halt).
    #[serde(default, deserialize_with = "bounds::ours")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the object.
    #[serde(default)]
    pub labels: pod::Labels,
    /// When the deletion was requested; `None` unless the object is being deleted.
    #[serde(default, deserialize_with = "maybe_short")]
    pub deletion_timestamp: Option<String>,
    /// The controller of the object, from `ownerReferences`.
    #[serde(default, rename = "ownerReferences")]
    pub controller: pod::Controller,
    /// The owners of the chaos keys, from `managedFields`, as [`field_managers::origin`] names
    /// them.
    #[serde(default, rename = "managedFields", deserialize_with = "field_managers::read")]
    pub set_by: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteOptions {
    /// Whether the deletion stores nothing: `dryRun` contains `All`.
    #[serde(default, rename = "dryRun", deserialize_with = "bounds::any_is_all")]
    is_dry_run: bool,
    #[serde(default)]
    grace_period_seconds: Option<i64>,
}

/// A review that can't be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The UID could be read, so the webhook answers with a denial of code 400.
    Answerable {
        /// UID of the review.
        uid: String,
        /// What is wrong with the review.
        why: String,
    },
    /// The UID could not be read, so the webhook answers with HTTP 400 and this text.
    Unanswerable(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<R> {
    #[serde(default, deserialize_with = "short")]
    api_version: String,
    #[serde(default, deserialize_with = "short")]
    kind: String,
    request: Option<R>,
}

#[derive(Deserialize)]
struct OnlyUid {
    #[serde(deserialize_with = "short")]
    uid: String,
}

/// Reads a review.
///
/// # Errors
/// Returns [`Malformed`] if the body is not an `AdmissionReview` of admission.k8s.io/v1 with a
/// request, or if a part of it is not understood.
pub fn parse(body: &[u8]) -> Result<Request, Malformed> {
    let read = std::str::from_utf8(body)
        .map_err(|error| format!("not UTF-8: {error}"))
        .and_then(|text| serde_json::from_str(text).map_err(|error| cut(error, LONGEST_WHY)));
    let why = match read {
        Ok(Envelope::<Request> { api_version, kind, request }) => match request {
            Some(request) if request.uid.is_empty() => "the request has no uid".to_owned(),
            Some(request) if api_version == API_VERSION && kind == KIND => return Ok(request),
            Some(_) => format!("expected an {KIND} of {API_VERSION}, got {kind:?} of {api_version:?}"),
            None => format!("expected an {KIND} of {API_VERSION} with a request"),
        },
        Err(error) => format!("failed to read the review: {error}"),
    };
    // Read the body again for the UID alone, because mistakes in other fields do not matter to it.
    match serde_json::from_slice::<Envelope<OnlyUid>>(body) {
        Ok(Envelope { request: Some(OnlyUid { uid }), .. }) if !uid.is_empty() => {
            Err(Malformed::Answerable { uid, why })
        }
        _ => Err(Malformed::Unanswerable(why)),
    }
}

/// The answer to a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Allows the request.
    Allow {
        /// Lines that kubectl shows beside the success.
        warnings: Vec<String>,
    },
    /// Denies the request.
    Deny {
        /// The status code that the user's client sees.
        code: Code,
        /// A sentence that tells the user what to write.
        message: String,
    },
}

/// Why a request is denied, as a status code of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
pub enum Code {
    /// 400: the review itself is not understood.
    BadRequest,
    /// 403: the request is not allowed here, or not now.
    Forbidden,
    /// 422: a value is not understood, or exceeds a ceiling.
    Invalid,
}

impl Code {
    fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::Invalid => 422,
        }
    }
}

/// Entries for the API audit log. The API server puts the webhook's name before each key.
pub type AuditAnnotations = BTreeMap<&'static str, String>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewOut<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a AuditAnnotations,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
}

/// Writes the answer to the review `uid` as JSON.
///
/// # Errors
/// Never fails with these types, because texts and numbers can always be written as JSON.
pub fn write(uid: &str, answer: &Answer, audit: &AuditAnnotations) -> serde_json::Result<Vec<u8>> {
    let (allowed, status, warnings) = match answer {
        Answer::Allow { warnings } => (true, None, warnings.iter().map(|text| one_line(text)).collect()),
        Answer::Deny { code, message } => {
            let status = Status { status: "Failure", code: code.number(), reason: code.into(), message };
            (false, Some(status), Vec::new())
        }
    };
    serde_json::to_vec(&ReviewOut {
        api_version: API_VERSION,
        kind: KIND,
        response: Response { uid, allowed, status, warnings, audit_annotations: audit },
    })
}

/// Returns the text as one line of at most [`LONGEST_WARNING`] bytes.
fn one_line(text: &str) -> String {
    cut(text, LONGEST_WARNING).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;

//! The wire: `AdmissionReview` of admission.k8s.io/v1, in and out, and nothing about what is allowed.
//!
//! Own types instead of kube's: they keep only what the rules ask, so that a review of 6 MiB costs its parsing and no more, and
//! the UID is read even where the rest is not understood, because an answer without it reads as a failure of the webhook.

use std::collections::BTreeMap;
use std::fmt;

use policy::keys::is_ours;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::origin::Entry;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// Longer warnings are cut by kubectl and the API server.
const LONGEST_WARNING: usize = 120;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Names this review; the answer repeats it.
    pub uid: String,
    /// What is being done.
    pub operation: Operation,
    /// To which kind of object.
    pub resource: Resource,
    /// To which part of it, such as `eviction`; empty for the object itself.
    #[serde(default)]
    pub sub_resource: String,
    /// The object's namespace; of a Namespace its own name.
    #[serde(default)]
    pub namespace: String,
    /// The object's name; empty for each object of a DELETE of many.
    #[serde(default)]
    pub name: String,
    /// Who asks.
    #[serde(default)]
    pub user_info: User,
    /// The object as it would be; none for a DELETE.
    #[serde(default)]
    pub object: Option<Object>,
    /// The object as it is; none for a CREATE.
    #[serde(default)]
    pub old_object: Option<Object>,
    #[serde(default)]
    dry_run: Option<bool>,
}

impl Request {
    /// Whether nothing will be stored. An eviction may say so in its own `deleteOptions` only, with the request's flag false.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
            || self
                .object
                .as_ref()
                .and_then(|object| object.delete_options.as_ref())
                .is_some_and(|options| options.dry_run.iter().flatten().any(|stage| stage == "All"))
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change.
    Update,
    /// An end.
    Delete,
    /// A connection, such as `exec`; none of our rules is about it.
    Connect,
}

impl Operation {
    /// The API's own word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resource {
    /// Its API group; empty for the core.
    #[serde(default)]
    pub group: String,
    /// Its plural name.
    pub resource: String,
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct User {
    /// Such as `system:serviceaccount:pure-chaos:agent`.
    #[serde(default)]
    pub username: String,
    /// Tells the user from another of the same name, where the API server knows it.
    #[serde(default)]
    pub uid: String,
    /// The groups that the API server puts the user in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What else its authenticator says of the user.
    #[serde(default)]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What the rules ask of an object: of a Namespace its metadata, of an Eviction its `deleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Name, UID, annotations and deletion.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    delete_options: Option<DeleteOptions>,
}

/// Of an object's metadata, what the rules ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its UID, where it has one yet.
    #[serde(default)]
    pub uid: Option<String>,
    /// Of its annotations those that are ours.
    #[serde(default, deserialize_with = "ours")]
    pub annotations: BTreeMap<String, String>,
    /// Set while it is being deleted.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
    /// Who owns which of its fields.
    #[serde(default)]
    pub managed_fields: Option<Vec<Entry>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteOptions {
    #[serde(default)]
    dry_run: Option<Vec<String>>,
}

/// Reads annotations and keeps ours: a Namespace may carry 256 KiB of others, and each review holds it twice.
fn ours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Ours;
    impl<'de> Visitor<'de> for Ours {
        type Value = BTreeMap<String, String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("annotations")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut annotations = BTreeMap::new();
            while let Some(OurKey(key)) = map.next_key()? {
                match key {
                    Some(key) => {
                        annotations.insert(key, map.next_value()?);
                    }
                    // Text like every annotation, or the review is none; but not kept.
                    None => {
                        map.next_value::<Text>()?;
                    }
                }
            }
            Ok(annotations)
        }
    }
    deserializer.deserialize_any(Ours)
}

struct OurKey(Option<String>);

impl<'de> Deserialize<'de> for OurKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = OurKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an annotation's key")
            }
            fn visit_str<E>(self, key: &str) -> Result<OurKey, E> {
                Ok(OurKey(is_ours(key).then(|| key.to_owned())))
            }
        }
        deserializer.deserialize_str(Key)
    }
}

struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl Visitor<'_> for Value {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an annotation's value")
            }
            fn visit_str<E>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(Value)
    }
}

/// A review that can't be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// It can be answered, because its UID could be read: with a denial of code 400.
    Answerable {
        /// The review's UID.
        uid: String,
        /// What is wrong.
        why: String,
    },
    /// It can't be answered: HTTP 400 with these words.
    Unanswerable(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<R> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<R>,
}

#[derive(Deserialize)]
struct OnlyUid {
    uid: String,
}

/// Reads a review.
///
/// # Errors
/// [`Malformed`] when it isn't an `AdmissionReview` of admission.k8s.io/v1 with a request, or a part of it isn't understood.
pub fn parse(body: &[u8]) -> Result<Request, Malformed> {
    let read = std::str::from_utf8(body)
        .map_err(|error| format!("not UTF-8: {error}"))
        .and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()));
    let why = match read {
        Ok(Envelope::<Request> { api_version, kind, request }) => match request {
            Some(request) if request.uid.is_empty() => "the request has no uid".to_owned(),
            Some(request) if api_version == API_VERSION && kind == KIND => return Ok(request),
            Some(_) => format!("expected an {KIND} of {API_VERSION}, got {kind:?} of {api_version:?}"),
            None => format!("expected an {KIND} of {API_VERSION} with a request"),
        },
        Err(error) => format!("failed to read the review: {error}"),
    };
    // Read again for the UID alone: what was wrong elsewhere doesn't matter to it.
    match serde_json::from_slice::<Envelope<OnlyUid>>(body) {
        Ok(Envelope { request: Some(OnlyUid { uid }), .. }) if !uid.is_empty() => {
            Err(Malformed::Answerable { uid, why })
        }
        _ => Err(Malformed::Unanswerable(why)),
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Let it happen.
    Allow {
        /// Lines that kubectl shows beside the success.
        warnings: Vec<String>,
    },
    /// Refuse it.
    Deny {
        /// The status code that the user's client sees.
        code: Code,
        /// A sentence that says what to write.
        message: String,
    },
}

/// Why something is refused, as the API's status codes tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 400: the review itself isn't understood.
    BadRequest,
    /// 403: not allowed here, or not now.
    Forbidden,
    /// 422: a value isn't understood, or is past a ceiling.
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

    fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Forbidden => "Forbidden",
            Self::Invalid => "Invalid",
        }
    }
}

/// What goes into the API audit log beside the answer; the API server puts the webhook's name before each key.
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

/// Writes the answer to the review `uid`.
///
/// # Errors
/// Never with these types; JSON of text and numbers can always be written.
pub fn write(uid: &str, answer: &Answer, audit: &AuditAnnotations) -> serde_json::Result<Vec<u8>> {
    let (allowed, status, warnings) = match answer {
        Answer::Allow { warnings } => (true, None, warnings.iter().map(|text| one_line(text)).collect()),
        Answer::Deny { code, message } => {
            let status = Status { status: "Failure", code: code.number(), reason: code.reason(), message };
            (false, Some(status), Vec::new())
        }
    };
    serde_json::to_vec(&ReviewOut {
        api_version: API_VERSION,
        kind: KIND,
        response: Response { uid, allowed, status, warnings, audit_annotations: audit },
    })
}

/// One line of at most [`LONGEST_WARNING`] characters.
fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shortened(line, LONGEST_WARNING)
}

/// At most so many characters: an annotation may hold 256 KiB, and what is said about it repeats it.
#[must_use]
pub fn shortened(text: String, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text;
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;

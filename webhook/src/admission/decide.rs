//! Decides the rule on opt-ins, as a pure function of the request and the present state. [`kill`]
//! decides the rule on kills.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy::consent::Consent;
use policy::digest::digest;
use policy::eligibility::{Eligibility, NamespaceView};
use policy::feasibility::never_kills;
use policy::platform::PlatformPolicy;
use policy::settings::{Key, Mode, Problem};
use policy::well_known::{CHAOS, PREFIX, is_chaos_key, is_ours};
use runtime::text::cut;

use crate::admission::bounds::MOST_ANNOTATIONS;
use crate::admission::change::Change;
use crate::admission::review::{Answer, Code, Operation, Request};

pub mod kill;

/// The longest message of a denial, in bytes. There is room for a dozen problems.
const LONGEST_MESSAGE: usize = 4_000;

/// The decision about a review: the answer, and what the webhook needs to check, log and remember.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// The answer to the API server.
    pub answer: Answer,
    /// The reason in a word or two, for the log.
    pub reason: &'static str,
    /// Whether the user needs the right to delete Pods in the namespace. The user needs this right
    /// if the request sets or changes a key that an opt-in obeys, now or later.
    pub needs_right: bool,
    /// The admission of an opt-in. The webhook remembers the admission for the record, unless the
    /// request is a dry run.
    pub note: Option<Note>,
}

/// An admitted opt-in, as the webhook remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Name of the namespace.
    pub namespace: String,
    /// UID of the namespace; `None` if the API server asked before it gave the namespace a UID.
    pub uid: Option<String>,
    /// Name of the user who opted in.
    pub user: String,
    /// [`digest`] of the admitted annotations.
    pub digest: String,
    /// [`origin`](crate::admission::field_managers::origin) of the admitted annotations.
    pub set_by: String,
}

impl Decision {
    fn allow(reason: &'static str) -> Self {
        Self { answer: Answer::Allow { warnings: Vec::new() }, reason, needs_right: false, note: None }
    }

    fn warning(mut self, text: String) -> Self {
        if let Answer::Allow { warnings } = &mut self.answer {
            warnings.push(text);
        }
        self
    }

    fn warnings(self, texts: impl IntoIterator<Item = String>) -> Self {
        texts.into_iter().fold(self, Self::warning)
    }

    fn deny(code: Code, reason: &'static str, message: String) -> Self {
        let message = cut(message, LONGEST_MESSAGE);
        Self { answer: Answer::Deny { code, message }, reason, needs_right: false, note: None }
    }
}

/// Decides the opt-in rule: whether the chaos keys of a Namespace may be stored at `now`.
///
/// This function does not check the user's right. If [`Decision::needs_right`] is set, the caller
/// has to check the right.
pub fn opt_in(request: &Request, policy: &PlatformPolicy, now: Timestamp) -> Decision {
    let new = match (request.operation, &request.object) {
        // Deleting a namespace opts it out, and is always allowed. The webhook configuration does
        // not even ask about it.
        (Operation::Delete | Operation::Connect, _) => return Decision::allow("not asked"),
        (Operation::Create | Operation::Update, Some(object)) => object,
        (Operation::Create | Operation::Update, None) => {
            let message = "the review has no object".to_owned();
            return Decision::deny(Code::BadRequest, "no object", message);
        }
    };
    if request.resource.resource != "namespaces" || !request.resource.group.is_empty() {
        return Decision::deny(
            Code::BadRequest,
            "not a namespace",
            format!("this rule is about namespaces, not {}", request.resource.resource),
        );
    }
    let name = if new.metadata.name.is_empty() { &request.name } else { &new.metadata.name };
    let view = NamespaceView {
        name: name.clone(),
        uid: new.metadata.uid.clone().unwrap_or_default(),
        annotations: new.metadata.annotations.clone(),
        terminating: new.metadata.deletion_timestamp.is_some(),
    };
    let change = Change::of(request, &new.metadata);
    if let Some(message) = change.halts_nothing() {
        return Decision::deny(Code::Invalid, "halts nothing", message);
    }
    if let Some(old) = &request.old_object {
        // Nobody consents by changing something else. And a namespace whose keys are not understood
        // must stay editable.
        if consent_of(&old.metadata.annotations).eq(consent_of(&view.annotations)) {
            return Decision::allow("unchanged").warnings(change.labels_consent());
        }
        // The deletion of a namespace can't be undone, so no Pod is ever killed there. A client
        // that removes a finalizer may also remove settings.
        let is_left = |(key, value): (&String, &String)| {
            !is_chaos_key(key) || old.metadata.annotations.get(key) == Some(value)
        };
        if view.terminating && view.annotations.iter().all(is_left) {
            return Decision::allow("being deleted");
        }
    }
    judge(view, request, policy, &new.metadata.set_by, change, now).warnings(change.labels_consent())
}

/// Returns the keys and values that make up the consent.
fn consent_of(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    annotations.iter().filter(|(key, _)| is_chaos_key(key))
}

fn judge(
    view: NamespaceView,
    request: &Request,
    policy: &PlatformPolicy,
    set_by: &str,
    change: Change<'_>,
    now: Timestamp,
) -> Decision {
    let name = &view.name;
    let forbidden = |reason, why: String| {
        Decision::deny(Code::Forbidden, reason, format!("metadata.annotations[{CHAOS}]: Forbidden: {why}"))
    };
    let ours = view.annotations.keys().filter(|key| *key != CHAOS && is_ours(key)).count();
    if ours > MOST_ANNOTATIONS && Consent::parse(&view.annotations) != Consent::Absent {
        let message = format!(
            "metadata.annotations: Too many: more than {MOST_ANNOTATIONS} annotations with prefix {PREFIX}; \
             remove those that are not settings"
        );
        return Decision::deny(Code::Invalid, "too many settings", message);
    }
    match Eligibility::of(&view, policy, now) {
        Eligibility::OptedOut => {
            let problems = change.without_effect();
            if !problems.is_empty() {
                return Decision::deny(Code::Invalid, "key without effect", joined(&problems));
            }
            let stray = view.annotations.keys().find(|key| is_chaos_key(key)).map(|key| {
                if key.eq_ignore_ascii_case(CHAOS) {
                    format!("{key} has no effect: only {CHAOS}=yes opts in")
                } else {
                    format!("{key} has no effect without {CHAOS}=yes")
                }
            });
            // A later opt-in by any user would obey this setting.
            let needs_right = change.set().next().is_some();
            Decision { needs_right, ..Decision::allow("not opted in") }.warnings(stray)
        }
        Eligibility::Protected => forbidden(
            "protected",
            format!(
                "namespace {name} is protected and can't opt in; leave the annotation out, or remove it: kubectl annotate namespace {name} {CHAOS}-"
            ),
        ),
        Eligibility::Terminating => forbidden(
            "terminating",
            format!("namespace {name} is being deleted and can't opt in; create it again, then annotate it"),
        ),
        Eligibility::NotUnderstood(problems) => {
            let reason = if Consent::parse(&view.annotations) == Consent::Yes {
                "settings not understood"
            } else {
                "consent not understood"
            };
            Decision::deny(Code::Invalid, reason, joined(&problems))
        }
        // An expired opt-in consents to nothing, so the webhook does not remember it. A later
        // `expires` is reviewed like any change.
        Eligibility::Expired(end) => Decision { needs_right: true, ..Decision::allow("expired") }
            .warning(format!("this opt-in never kills: it expired at {end}")),
        Eligibility::Eligible(settings) => {
            let uid = Some(view.uid).filter(|uid| !uid.is_empty());
            let warning = never_kills(&settings, policy, uid.as_deref(), now);
            // Warn only about a new `also-at`, not at each later change: the annotation stays on
            // the Namespace after its round.
            let also_at = Key::AlsoAt.annotation();
            let is_news =
                view.annotations.contains_key(&also_at) && (change.begins() || change.sets(&also_at));
            let passed = settings.also_at.filter(|at| is_news && *at <= now);
            let idle = passed.map(|_| also_at.as_str());
            // Owners who have read only how to opt in rely on their PodDisruptionBudgets.
            let mode = Key::Mode.annotation();
            let harsh = (change.begins()
                && settings.mode != Mode::Evict
                && !view.annotations.contains_key(&mode))
            .then(|| {
                format!(
                    "this opt-in uses the platform's default {mode}={}, which ignores PodDisruptionBudgets",
                    settings.mode
                )
            });
            let user = request.user_info.username.clone();
            let (digest, set_by) = (digest(&view.annotations), set_by.to_owned());
            let note = Note { namespace: view.name, uid, user, digest, set_by };
            Decision { note: Some(note), needs_right: true, ..Decision::allow("opted in") }
                .warnings(warning.map(str::to_owned))
                .warnings(harsh)
                .warnings(passed.map(|at| format!("{also_at} has no effect: {at} has passed")))
                .warnings(change.laid_in_wait(idle))
                .warnings(
                    settings.kinds.of_unknown_size().filter(|kind| policy.workloads.get(kind).is_none()).map(
                        |kind| {
                            format!(
                                "Pure Chaos does not know kind {kind}: only Pods of its ReplicaSets can die, \
                                 unless the platform's policy lists the kind"
                            )
                        },
                    ),
                )
        }
    }
}

fn joined(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Returns the namespace in which the user needs the right to delete Pods. `None` means all
/// namespaces: nobody can have a right in a namespace that is just being created.
#[must_use]
pub fn place_of_right(request: &Request) -> Option<&str> {
    (request.operation != Operation::Create).then_some(request.name.as_str())
}

/// Denies a chaos key to a user who may not delete Pods in the namespace.
pub fn without_right(request: &Request) -> Decision {
    let Request { name, user_info, .. } = request;
    let user = &user_info.username;
    let key = subject(request);
    let what = if key == CHAOS { "opt in" } else { "change the chaos settings of" };
    let why = match place_of_right(request) {
        Some(_) => format!(
            "user {user} may not {what} namespace {name}: this needs the right to delete Pods there \
             (verb delete, resource pods); check with kubectl auth can-i delete pods --namespace {name}"
        ),
        None => format!(
            "user {user} may not create namespace {name} with this annotation: this needs the right to \
             delete Pods in all namespaces; create the namespace first, then annotate it: \
             kubectl annotate namespace {name} {CHAOS}=yes"
        ),
    };
    Decision::deny(
        Code::Forbidden,
        "user may not delete pods",
        format!("metadata.annotations[{key}]: Forbidden: {why}"),
    )
}

/// Denies a chaos key because the user's right is unknown. A failed check is a refusal.
pub fn right_unknown(request: &Request, why: &str) -> Decision {
    Decision::deny(
        Code::Forbidden,
        "user's rights unknown",
        format!(
            "metadata.annotations[{}]: Forbidden: failed to check whether user {} \
             may delete Pods in namespace {}: {why}; try again",
            subject(request),
            request.user_info.username,
            request.name
        ),
    )
}

fn subject(request: &Request) -> &str {
    request.object.as_ref().map_or(CHAOS, |object| Change::of(request, &object.metadata).subject())
}

/// Returns the entries of an admitted opt-in for the API audit log.
#[must_use]
pub fn audit(note: &Note) -> crate::admission::review::AuditAnnotations {
    let Note { user, digest, .. } = note;
    [("admitted", format!("user={user} digest={digest}"))].into()
}

#[cfg(test)]
mod tests;

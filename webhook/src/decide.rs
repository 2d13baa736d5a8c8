//! Both rules, as pure functions of what was asked and what holds.

use jiff::Timestamp;
use policy::consent::Consent;
use policy::digest::digest;
use policy::eligibility::{Eligibility, NamespaceView};
use policy::keys::{CHAOS, SYSTEM_NAMESPACE, is_chaos_key};
use policy::lock::may_kill;
use policy::outlook::never_kills;
use policy::platform::PlatformPolicy;

use crate::origin::origin;
use crate::review::{Answer, Code, Operation, Request, shortened};

/// The group of every account of [`SYSTEM_NAMESPACE`]; `kill.purechaos.dev` is only asked about its members.
pub const LOCKED_GROUP: &str = "system:serviceaccounts:pure-chaos";

/// Characters of a denial; room for a dozen problems.
const LONGEST_MESSAGE: usize = 4_000;

/// A decision, and what only admission knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// What is answered.
    pub answer: Answer,
    /// In a word or two, why; for the log.
    pub reason: &'static str,
    /// The admission of an opt-in, to be remembered for the record unless the request is a dry run.
    pub note: Option<Note>,
}

/// An opt-in that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The namespace's name.
    pub namespace: String,
    /// Its UID, where the API server had given it one before it asked.
    pub uid: Option<String>,
    /// Who opted in.
    pub user: String,
    /// [`digest`] of the admitted annotations.
    pub digest: String,
    /// [`origin`] of the admitted annotations.
    pub set_by: String,
}

impl Decision {
    fn allow(reason: &'static str) -> Self {
        Self { answer: Answer::Allow { warnings: Vec::new() }, reason, note: None }
    }

    fn warning(mut self, text: String) -> Self {
        if let Answer::Allow { warnings } = &mut self.answer {
            warnings.push(text);
        }
        self
    }

    fn deny(code: Code, reason: &'static str, message: String) -> Self {
        let message = shortened(message, LONGEST_MESSAGE);
        Self { answer: Answer::Deny { code, message }, reason, note: None }
    }
}

/// The opt-in rule: what of a Namespace's chaos keys may be stored at `now`. Whether the user may opt in at all is asked elsewhere, of
/// each opt-in that this allows: those with a note.
pub fn opt_in(request: &Request, policy: &PlatformPolicy, now: Timestamp) -> Decision {
    let new = match (request.operation, &request.object) {
        // Opting out by deleting the namespace always works; the configuration doesn't even ask.
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
    let admitted = digest(&view.annotations);
    let set_by = origin(new.metadata.managed_fields.as_deref().unwrap_or_default());
    if let Some(old) = &request.old_object {
        // Nobody consents by changing something else, and a namespace whose keys aren't understood must stay editable.
        if digest(&old.metadata.annotations) == admitted {
            return Decision::allow("unchanged");
        }
    }
    judge(view, request, policy, (admitted, set_by), now)
}

fn judge(
    view: NamespaceView,
    request: &Request,
    policy: &PlatformPolicy,
    (admitted, set_by): (String, String),
    now: Timestamp,
) -> Decision {
    let name = &view.name;
    let forbidden = |reason, why: String| {
        Decision::deny(Code::Forbidden, reason, format!("metadata.annotations[{CHAOS}]: Forbidden: {why}"))
    };
    match Eligibility::of(&view, policy, now) {
        Eligibility::OptedOut => {
            let stray = view.annotations.keys().find(|key| is_chaos_key(key));
            stray.into_iter().fold(Decision::allow("not opted in"), |decision, key| {
                let what = if key.eq_ignore_ascii_case(CHAOS) {
                    "is not what opts in, that is"
                } else {
                    "counts only beside"
                };
                decision.warning(format!("no effect: {key} {what} {CHAOS}=yes"))
            })
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
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let reason = if Consent::parse(&view.annotations) == Consent::Yes {
                "settings not understood"
            } else {
                "consent not understood"
            };
            Decision::deny(Code::Invalid, reason, all.join("; "))
        }
        // It consents to nothing, so nothing is remembered; a later end is reviewed like any change.
        Eligibility::Expired(end) => {
            Decision::allow("expired").warning(format!("this opt-in never kills: it expired at {end}"))
        }
        Eligibility::Eligible(settings) => {
            let uid = Some(view.uid).filter(|uid| !uid.is_empty());
            let warning = never_kills(&settings, policy, uid.as_deref(), now);
            let user = request.user_info.username.clone();
            let note = Note { namespace: view.name, uid, user, digest: admitted, set_by };
            let decision = Decision { note: Some(note), ..Decision::allow("opted in") };
            warning.into_iter().fold(decision, |decision, text| decision.warning(text.to_owned()))
        }
    }
}

/// Where the user has to be allowed to delete Pods: everywhere for a namespace that is just being made, since nobody can have a right in
/// it yet.
#[must_use]
pub fn place_of_right(request: &Request) -> Option<&str> {
    (request.operation != Operation::Create).then_some(request.name.as_str())
}

/// The denial of an opt-in by somebody who may not delete Pods there.
pub fn without_right(request: &Request) -> Decision {
    let Request { name, user_info, .. } = request;
    let user = &user_info.username;
    let why = match place_of_right(request) {
        Some(_) => format!(
            "only who may delete Pods in namespace {name} may opt it in, and user {user} lacks that right (verb delete, resource pods, \
             namespace {name}); see kubectl auth can-i delete pods --namespace {name}"
        ),
        None => format!(
            "to create namespace {name} with this annotation user {user} would need the right to delete Pods in all namespaces; create it, \
             then annotate it: kubectl annotate namespace {name} {CHAOS}=yes"
        ),
    };
    Decision::deny(
        Code::Forbidden,
        "user may not delete pods",
        format!("metadata.annotations[{CHAOS}]: Forbidden: {why}"),
    )
}

/// The denial where nobody could say what the user may: a failed check is a refusal.
pub fn right_unknown(request: &Request, why: &str) -> Decision {
    Decision::deny(
        Code::Forbidden,
        "user's rights unknown",
        format!(
            "metadata.annotations[{CHAOS}]: Forbidden: failed to ask whether user {} may delete Pods in namespace {}: {why}; try again",
            request.user_info.username, request.name
        ),
    )
}

/// Whether a request is one that the kill lock judges at all: only Pure Chaos's own accounts are locked.
#[must_use]
pub fn is_locked(request: &Request) -> bool {
    request.user_info.groups.iter().any(|group| group == LOCKED_GROUP)
        // The name alone suffices, should an API server leave the groups out.
        || request
            .user_info
            .username
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(namespace, _)| namespace == SYSTEM_NAMESPACE)
}

/// The kill rule for whoever is not locked.
pub fn not_locked() -> Decision {
    Decision::allow("not an account of pure-chaos")
}

/// The namespace that a locked request would kill in.
///
/// # Errors
/// The denial, when the request is no kill that this rule knows.
pub fn place_of_kill(request: &Request) -> Result<&str, Box<Decision>> {
    let is_pods = request.resource.group.is_empty() && request.resource.resource == "pods";
    let is_kill = match (request.operation, request.sub_resource.as_str()) {
        (Operation::Delete, "") | (Operation::Create, "eviction") => is_pods,
        _ => false,
    };
    if !is_kill || request.namespace.is_empty() {
        let what = format!(
            "{} of {}/{} in namespace {:?}",
            request.operation.word(),
            request.resource.resource,
            request.sub_resource,
            request.namespace
        );
        return Err(Box::new(Decision::deny(
            Code::Forbidden,
            "not a kill",
            format!("accounts of {SYSTEM_NAMESPACE} may only kill Pods of a namespace here, not {what}"),
        )));
    }
    Ok(&request.namespace)
}

/// The kill rule: whether a Pod of `namespace` may be killed at `now`, as both Namespaces stand. `system` is `None` where the namespace
/// `pure-chaos` can't be read, which halts.
pub fn kill(
    namespace: &NamespaceView,
    system: Option<&NamespaceView>,
    policy: &PlatformPolicy,
    now: Timestamp,
) -> Decision {
    match may_kill(namespace, system, policy, now) {
        Ok(_) => Decision::allow("opted in"),
        Err(locked) => Decision::deny(Code::Forbidden, "locked", locked.sentence(&namespace.name)),
    }
}

/// The answer where the namespace could not be read: a failed check is a refusal.
pub fn unreadable(namespace: &str, why: &str) -> Decision {
    Decision::deny(
        Code::Forbidden,
        "namespace unreadable",
        format!("namespace {namespace} can't be read, so nothing is killed there: {why}; try again"),
    )
}

/// The keys of an opt-in in the API audit log.
#[must_use]
pub fn audit(note: &Note) -> crate::review::AuditAnnotations {
    let Note { user, digest, .. } = note;
    [("admitted", format!("user={user} digest={digest}"))].into()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

//! The HTTP routes. For each request, the webhook authenticates the caller, reads the review, lets
//! [`crate::admission::decide`] decide, remembers an admission, answers, counts and logs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use kube::Client;
use policy::platform::PlatformPolicy;
use runtime::clock::Clock;

use crate::admission::access::may_delete_pods;
use crate::admission::callers::Callers;
use crate::admission::decide::{self, Decision, kill};
use crate::admission::pending_admissions::PendingAdmissions;
use crate::admission::review::{self, Answer, AuditAnnotations, Code, Malformed, Request};
use crate::metrics::{Metrics, Outcome, Rule};
use crate::namespaces;
use crate::reconcile::queue::Queue;
use crate::server::body::{self, Budget};

/// How long a review may take. The API server waits 5 s, which includes the network in both
/// directions.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(4_500);
/// How long after an admission the namespace is reconciled in case the watch missed the change.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// What the webhook needs to answer a review.
pub struct Reviews {
    /// Authenticates callers.
    pub callers: Arc<Callers>,
    /// Client of the API server. The kill lock reads Namespaces, and the opt-in asks for the rights
    /// of users.
    pub client: Client,
    /// The platform's policy.
    pub policy: Arc<PlatformPolicy>,
    /// Remembers admissions.
    pub pending_admissions: Arc<PendingAdmissions>,
    /// The queue to which namespaces with an admission are added.
    pub queue: Arc<Queue>,
    /// Counts the answers.
    pub metrics: Metrics,
    /// The wall clock and the monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// The memory that request bodies may take.
    pub bodies: Budget,
}

/// Returns the routes POST `/opt-in/SEGMENT` and `/kill/SEGMENT` as a value, so that tests can call
/// them without a server.
pub fn router(reviews: Arc<Reviews>) -> Router {
    Router::new().fallback(authenticate).with_state(reviews)
}

/// Authenticates the caller by the path, before anything else of the request is looked at. A caller
/// that is not known gets no second request on its connection.
async fn authenticate(state: State<Arc<Reviews>>, request: HttpRequest) -> Response {
    match state.callers.rule_of(request.uri().path()) {
        Some(rule) if request.method() == Method::POST => answer(rule, state, request).await,
        Some(_) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        None => {
            state.callers.turned_away();
            // If the caller was an API server after all, the API server shows this text to the
            // user.
            let why = "the path of this request is not the one in the webhook configuration: \
                       try again, and check that certs runs\n";
            (StatusCode::FORBIDDEN, [(header::CONNECTION, "close")], why).into_response()
        }
    }
}

async fn answer(rule: Rule, State(reviews): State<Arc<Reviews>>, request: HttpRequest) -> Response {
    let start = reviews.clock.monotonic();
    // Every failure must become an answer other than 2xx. The API server then denies the request,
    // as `failurePolicy: Fail` says.
    let work = AssertUnwindSafe(reviews.answer(rule, request)).catch_unwind();
    let (outcome, response) = match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => {
            tracing::error!(rule = rule.label(), "failed to answer a review: panic");
            let why = "failed to decide because of a bug: see the webhook's log";
            failure(StatusCode::INTERNAL_SERVER_ERROR, why)
        }
        Err(_) => {
            tracing::error!(rule = rule.label(), "failed to answer a review in time");
            failure(StatusCode::GATEWAY_TIMEOUT, "failed to decide in time")
        }
    };
    let time = reviews.clock.monotonic().duration_since(start);
    reviews.metrics.answered(rule, outcome, time);
    response
}

fn failure(status: StatusCode, why: &str) -> (Outcome, Response) {
    (Outcome::Error, (status, format!("{why}\n")).into_response())
}

impl Reviews {
    async fn answer(&self, rule: Rule, request: HttpRequest) -> (Outcome, Response) {
        // Hold the share of the budget until the answer is made, because the parsed review takes
        // memory as well.
        let body::Read { bytes, share: _share } = match self.body_of(request).await {
            Ok(body) => body,
            Err((status, why)) => return failure(status, &why),
        };
        let turn = self.bodies.turn(&bytes).await;
        let parsed = review::parse(&bytes);
        drop((bytes, turn));
        let request = match parsed {
            Ok(request) => request,
            Err(Malformed::Unanswerable(why)) => return failure(StatusCode::BAD_REQUEST, &why),
            Err(Malformed::Answerable { uid, why }) => {
                tracing::warn!(rule = rule.label(), uid, why, "failed to understand a review");
                let denial = Answer::Deny { code: Code::BadRequest, message: why };
                return (Outcome::Error, written(&uid, &denial, &AuditAnnotations::new()));
            }
        };
        let (outcome, decision) = match rule {
            Rule::OptIn => self.opt_in(&request).await,
            Rule::Kill => self.kill(&request).await,
        };
        let (outcome, decision) = self.remembered(&request, outcome, decision);
        log(rule, &request, outcome, &decision);
        let audit = decision.note.as_ref().map(decide::audit).unwrap_or_default();
        (outcome, written(&request.uid, &decision.answer, &audit))
    }

    /// Remembers an admission before the answer is sent, so that the watch can't be faster. An
    /// admission that could not count is denied, so that the user does not have to find that out
    /// from a record.
    fn remembered(&self, request: &Request, outcome: Outcome, decision: Decision) -> (Outcome, Decision) {
        let Some(note) = decision.note.clone().filter(|_| !request.is_dry_run()) else {
            return (outcome, decision);
        };
        let namespace = note.namespace.clone();
        let message = if !self.pending_admissions.is_complete() {
            "the webhook has just started, and has not read every namespace yet: try again"
        } else if !self.pending_admissions.is_guarded() {
            "the webhook configuration has just changed, or lets opt-ins through without a review: \
             try again in a few seconds"
        } else if self.pending_admissions.remember(note, self.clock.wall(), self.clock.monotonic()) {
            self.queue.add_after(&namespace, LOOK_AFTER);
            return (outcome, decision);
        } else {
            "too many opt-ins are under way: try again in a minute"
        };
        let answer = Answer::Deny { code: Code::Forbidden, message: message.to_owned() };
        (Outcome::Error, Decision { answer, reason: "not_now", needs_right: false, note: None })
    }

    async fn body_of(&self, request: HttpRequest) -> Result<body::Read, (StatusCode, String)> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = kind
            .and_then(|kind| kind.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            let why = "expected Content-Type: application/json".to_owned();
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        self.bodies.read(request.into_body()).await
    }

    async fn opt_in(&self, request: &Request) -> (Outcome, Decision) {
        let decision = decide::opt_in(request, &self.policy, self.clock.wall());
        if !decision.needs_right || !self.policy.require_pod_delete {
            return outcome_of(decision);
        }
        match may_delete_pods(&self.client, &request.user_info, decide::place_of_right(request)).await {
            Ok(true) => outcome_of(decision),
            Ok(false) => outcome_of(decide::without_right(request)),
            Err(why) => (Outcome::Error, decide::right_unknown(request, &why)),
        }
    }

    async fn kill(&self, request: &Request) -> (Outcome, Decision) {
        if !kill::is_locked(request) {
            return outcome_of(kill::not_locked());
        }
        let place = match kill::place_of_kill(request) {
            Ok(place) => place,
            Err(denial) => return outcome_of(*denial),
        };
        match namespaces::read_for_lock(&self.client, place).await {
            Ok((target, system)) => {
                let decision =
                    kill::decide(request, &target, system.as_ref(), &self.policy, self.clock.wall());
                // If the halt can't be read, the denial counts as a failure.
                match system {
                    Some(_) => outcome_of(decision),
                    None => (Outcome::Error, decision),
                }
            }
            Err(why) => (Outcome::Error, kill::unreadable(place, &why)),
        }
    }
}

fn outcome_of(decision: Decision) -> (Outcome, Decision) {
    let outcome = match decision.answer {
        Answer::Allow { .. } => Outcome::Allow,
        Answer::Deny { .. } => Outcome::Deny,
    };
    (outcome, decision)
}

fn written(uid: &str, answer: &Answer, audit: &AuditAnnotations) -> Response {
    match review::write(uid, answer, audit) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            failure(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed to write the answer: {error}")).1
        }
    }
}

fn log(rule: Rule, request: &Request, outcome: Outcome, decision: &Decision) {
    let message = match &decision.answer {
        Answer::Allow { .. } => None,
        Answer::Deny { message, .. } => Some(message),
    };
    tracing::info!(
        rule = rule.label(),
        namespace = request.namespace,
        object = request.name,
        user = request.user_info.username,
        operation = request.operation.word(),
        sub_resource = request.sub_resource,
        decision = outcome.label(),
        reason = decision.reason,
        denial = message,
        dry_run = request.is_dry_run(),
        uid = request.uid,
        "answered a review"
    );
}

#[cfg(test)]
mod tests;

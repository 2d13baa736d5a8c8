//! The routes: read a review, let [`crate::decide`] decide, remember, answer, count, log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt;
use kube::Client;
use policy::platform::PlatformPolicy;
use runtime::clock::Clock;

use crate::access::may_delete_pods;
use crate::body::{self, Budget};
use crate::decide::{self, Decision};
use crate::metrics::{Metrics, Outcome, Rule};
use crate::namespaces;
use crate::notes::Notes;
use crate::queue::Queue;
use crate::review::{self, Answer, AuditAnnotations, Code, Malformed, Request};

/// The API server waits 5 s, which includes the way there and back.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(4_500);
/// After an admission, when to look at the namespace should its watch have missed the change.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// What answering needs.
pub struct Reviews {
    /// For the live read of the kill lock, and to ask what a user may.
    pub client: Client,
    /// The platform's policy.
    pub policy: Arc<PlatformPolicy>,
    /// Where admissions are remembered.
    pub notes: Arc<Notes>,
    /// Where namespaces with an admission become due.
    pub queue: Arc<Queue>,
    /// What is counted.
    pub metrics: Metrics,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// The memory that bodies may take.
    pub bodies: Budget,
}

/// The routes as a value that tests can call: POST `/opt-in` and `/kill`.
pub fn router(reviews: Arc<Reviews>) -> Router {
    Router::new()
        .route("/opt-in", post(|state, request| answer(Rule::OptIn, state, request)))
        .route("/kill", post(|state, request| answer(Rule::Kill, state, request)))
        .with_state(reviews)
}

async fn answer(rule: Rule, State(reviews): State<Arc<Reviews>>, request: HttpRequest) -> Response {
    let start = reviews.clock.monotonic();
    // Whatever goes wrong must be an answer other than 2xx: then the API server refuses, as `failurePolicy: Fail` says.
    let work = AssertUnwindSafe(reviews.answer(rule, request)).catch_unwind();
    let (outcome, response) = match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => {
            tracing::error!(rule = rule.label(), "a review could not be answered: panic");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "failed to decide: a defect, see the webhook's log")
        }
        Err(_) => {
            tracing::error!(rule = rule.label(), "a review could not be answered in time");
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
        let body = match self.body_of(request).await {
            Ok(body) => body,
            Err((status, why)) => return failure(status, &why),
        };
        let request = match review::parse(&body.bytes) {
            Ok(request) => request,
            Err(Malformed::Unanswerable(why)) => return failure(StatusCode::BAD_REQUEST, &why),
            Err(Malformed::Answerable { uid, why }) => {
                tracing::warn!(rule = rule.label(), uid, why, "a review was not understood");
                let denial = Answer::Deny { code: Code::BadRequest, message: why };
                return (Outcome::Error, written(&uid, &denial, &AuditAnnotations::new()));
            }
        };
        // The objects are parsed; a second copy of up to 8 MiB need not wait for the live read.
        drop(body);
        let (outcome, decision) = match rule {
            Rule::OptIn => self.opt_in(&request).await,
            Rule::Kill => self.kill(&request).await,
        };
        log(rule, &request, outcome, &decision);
        let Decision { answer, note, .. } = decision;
        let audit = note.as_ref().map(decide::audit).unwrap_or_default();
        if let Some(note) = note.filter(|_| !request.is_dry_run()) {
            // Before the answer, so that the watch can't be faster.
            self.queue.add_after(&note.namespace, LOOK_AFTER);
            self.notes.remember(note, self.clock.wall(), self.clock.monotonic());
        }
        (outcome, written(&request.uid, &answer, &audit))
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
        if decision.note.is_none() || !self.policy.require_pod_delete {
            return outcome_of(decision);
        }
        match may_delete_pods(&self.client, &request.user_info, decide::place_of_right(request)).await {
            Ok(true) => outcome_of(decision),
            Ok(false) => outcome_of(decide::without_right(request)),
            Err(why) => (Outcome::Error, decide::right_unknown(request, &why)),
        }
    }

    async fn kill(&self, request: &Request) -> (Outcome, Decision) {
        if !decide::is_locked(request) {
            return outcome_of(decide::not_locked());
        }
        let place = match decide::place_of_kill(request) {
            Ok(place) => place,
            Err(denial) => return outcome_of(*denial),
        };
        match namespaces::read_for_lock(&self.client, place).await {
            Ok((target, system)) => {
                let decision = decide::kill(&target, system.as_ref(), &self.policy, self.clock.wall());
                // Where the halt can't be read the denial stands for a failure.
                match system {
                    Some(_) => outcome_of(decision),
                    None => (Outcome::Error, decision),
                }
            }
            Err(why) => (Outcome::Error, decide::unreadable(place, &why)),
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
        "decided"
    );
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;

//! Asks the checks of the steady state, through the API server's service proxy. Namespaces that ask
//! the same question within a second share one answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use policy::prometheus_address::PrometheusAddress;
use policy::steady_state::{Check, CheckNames, Checks, Probe, ServiceAddress};
use runtime::clock::Clock;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Answer, Finding, judge};

/// For how long an answer holds for others that ask the same.
const FRESH: Duration = Duration::from_secs(1);

/// How many questions may be open at once. A question that waits for its turn longer than its check
/// allows has no answer.
const AT_ONCE: usize = 32;

/// Above this number of questions, the prober forgets those that nobody waits for.
const MOST_QUESTIONS: usize = 1_000;

/// The longest answer that is read. Longer ones are unknown.
const LONGEST_ANSWER: usize = 1 << 20;

/// Where a question goes, and what a good answer is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    /// Whether the question goes to the Prometheus outside the cluster.
    is_outside: bool,
    path: String,
    status: Option<u16>,
}

/// An answer to a question.
#[derive(Debug, Clone)]
struct Answered {
    /// An instant just before the question was sent.
    asked: Instant,
    /// When the answer came.
    at: Instant,
    answer: Answer,
}

/// The last answer to a question.
type LastAnswer = Arc<tokio::sync::Mutex<Option<Answered>>>;

/// Asks the checks that the platform's policy defines.
pub struct Prober {
    client: Client,
    clock: Arc<dyn Clock>,
    checks: Checks,
    /// The client of the Prometheus outside the cluster, or why there is none.
    outside: Result<Client, String>,
    answers: Mutex<BTreeMap<Question, LastAnswer>>,
    turns: Semaphore,
}

impl Prober {
    /// A prober for these checks.
    #[must_use]
    pub fn new(client: Client, clock: Arc<dyn Clock>, checks: Checks) -> Self {
        let address = checks.iter().find_map(|check| match &check.probe {
            Probe::Prometheus { address: PrometheusAddress::Outside(address), .. } => Some(address),
            _ => None,
        });
        let outside = address.ok_or_else(|| "the policy names no such Prometheus".to_owned());
        let outside = outside.and_then(|address| {
            runtime::outside::client(&address.url, &address.ca).map_err(|error| format!("{error:#}"))
        });
        Self { client, clock, checks, outside, answers: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }

    /// Asks the chosen checks for a namespace, all at once. An answer to a question that was sent
    /// before `not_before` does not count.
    pub async fn ask(
        &self,
        namespace: &str,
        chosen: &CheckNames,
        not_before: Option<Instant>,
    ) -> Vec<Finding> {
        let all = chosen.iter().map(|check| self.ask_one(namespace, check, not_before));
        futures::future::join_all(all).await
    }

    /// Asks one check for a namespace. An answer to a question that was sent before `not_before`
    /// does not count.
    pub async fn ask_one(&self, namespace: &str, name: &str, not_before: Option<Instant>) -> Finding {
        let asked = self.clock.monotonic();
        let (asked, answer) = match self.checks.get(name) {
            Some(check) => self.ask_within(namespace, check, not_before).await,
            None => (asked, Answer::Unknown("the platform's policy does not define it".to_owned())),
        };
        Finding { check: name.to_owned(), answer, asked }
    }

    async fn ask_within(
        &self,
        namespace: &str,
        check: &Check,
        not_before: Option<Instant>,
    ) -> (Instant, Answer) {
        let (probe, within) = (&check.probe, check.within);
        let question = question(probe, namespace);
        let last = self.last_answer(&question);
        let begun = self.clock.monotonic();
        let too_late = || Answer::Unknown(format!("no answer within {} s", within.as_secs()));
        let Ok(mut last) = tokio::time::timeout(within, last.lock()).await else {
            return (begun, too_late());
        };
        let now = self.clock.monotonic();
        let holds_for_us = |last: &&Answered| {
            now.saturating_duration_since(last.at) < FRESH
                && not_before.is_none_or(|instant| last.asked >= instant)
        };
        if let Some(Answered { asked, answer, .. }) = last.as_ref().filter(holds_for_us) {
            return (*asked, answer.clone());
        }
        let asked = tokio::time::timeout(within, async {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await;
            self.request(probe, &question).await
        });
        let answer = asked.await.unwrap_or_else(|_| too_late());
        *last = Some(Answered { asked: now, at: self.clock.monotonic(), answer: answer.clone() });
        (now, answer)
    }

    fn last_answer(&self, question: &Question) -> LastAnswer {
        let mut answers = self.answers.lock();
        if answers.len() >= MOST_QUESTIONS {
            answers.retain(|_, answer| Arc::strong_count(answer) > 1);
        }
        Arc::clone(answers.entry(question.clone()).or_default())
    }

    async fn request(&self, probe: &Probe, question: &Question) -> Answer {
        let failed = |why: &dyn std::fmt::Display| Answer::Unknown(format!("failed to ask: {why}"));
        let request = match http::Request::get(&question.path).body(Body::empty()) {
            Ok(request) => request,
            Err(error) => return failed(&error),
        };
        let client = match &self.outside {
            _ if !question.is_outside => &self.client,
            Ok(client) => client,
            Err(why) => return failed(why),
        };
        let response = match client.send(request).await {
            Ok(response) => response,
            Err(error) => return failed(&error),
        };
        let status = response.status().as_u16();
        match Limited::new(response.into_body(), LONGEST_ANSWER).collect().await {
            Ok(body) => judge(probe, status, &body.to_bytes()),
            Err(error) => failed(&error),
        }
    }
}

/// The request for a probe, by the path that the API server's service proxy takes.
fn question(probe: &Probe, namespace: &str) -> Question {
    let proxy = |namespace: &str, service: &str, path: &str| {
        format!("/api/v1/namespaces/{namespace}/services/{service}/proxy{path}")
    };
    match probe {
        Probe::Prometheus { address, expression } => {
            let expression = Probe::expression(expression, namespace);
            let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
            let path = format!("/api/v1/query?query={query}");
            match address {
                PrometheusAddress::Service(ServiceAddress { namespace, service }) => {
                    let path = proxy(namespace, service, &path);
                    Question { is_outside: false, path, status: None }
                }
                PrometheusAddress::Outside(_) => Question { is_outside: true, path, status: None },
            }
        }
        Probe::Http { service, path, status } => {
            let path = proxy(namespace, service, path);
            Question { is_outside: false, path, status: Some(*status) }
        }
    }
}

//! The checks of the steady state: what an answer to one of them means, whether a round may begin,
//! and whether the hypothesis held during a recovery. [`prober`] asks them.

use policy::steady_state::Probe;
use runtime::text::cut;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::guard::namespace::Forbidden;
use crate::refusal::Refusal;

#[cfg(feature = "controller")]
pub mod hypothesis;
pub mod prober;
#[cfg(feature = "controller")]
pub mod sampler;

/// What a check found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The check holds.
    Holds,
    /// The check doesn't hold. The text says what was seen instead.
    Broken(String),
    /// Nobody knows. The text says why.
    Unknown(String),
    /// The account may not ask. The text is the API server's.
    Forbidden(String),
}

/// The most bytes that are kept of what a check saw.
const LONGEST_TEXT: usize = 300;

impl Answer {
    /// The answer with a text of bounded length, because the text comes from others.
    fn cut(self) -> Self {
        match self {
            Self::Holds => Self::Holds,
            Self::Broken(text) => Self::Broken(plain(&text)),
            Self::Unknown(text) => Self::Unknown(plain(&text)),
            Self::Forbidden(text) => Self::Forbidden(plain(&text)),
        }
    }
}

/// A text from others in one line and of bounded length. Control characters could change a
/// terminal.
fn plain(text: &str) -> String {
    let shown: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    cut(&shown, LONGEST_TEXT)
}

/// The answer to one of the checks that a namespace chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub check: String,
    /// What it found out.
    pub answer: Answer,
    /// An instant just before the question was sent.
    pub asked: Instant,
}

/// Whether a round may begin: all checks have to hold.
///
/// # Errors
/// [`Refusal::NotSteady`] if a check doesn't hold, or else [`Refusal::SteadyStateUnknown`] if one has
/// no answer. The sentence names each such check.
pub fn permits(findings: &[Finding]) -> Result<(), Forbidden> {
    let (mut broken, mut unknown) = (Vec::new(), Vec::new());
    for Finding { check, answer, asked: _ } in findings {
        match answer {
            Answer::Holds => {}
            Answer::Broken(why) => broken.push(format!("check `{check}` does not hold: {why}")),
            Answer::Unknown(why) | Answer::Forbidden(why) => {
                unknown.push(format!("check `{check}` has no answer: {why}"));
            }
        }
    }
    let refused = [(Refusal::NotSteady, broken), (Refusal::SteadyStateUnknown, unknown)];
    match refused.into_iter().find(|(_, sentences)| !sentences.is_empty()) {
        Some((refusal, sentences)) => Err(Forbidden { refusal, sentence: sentences.join("; ") }),
        None => Ok(()),
    }
}

/// What the API server, or the Service behind it, answered to a probe.
#[must_use]
pub fn judge(probe: &Probe, status: u16, body: &[u8]) -> Answer {
    answer(probe, status, body).cut()
}

fn answer(probe: &Probe, status: u16, body: &[u8]) -> Answer {
    // The API server answers in its own form if it does not reach the Service. A Service can write the
    // same form, so only those codes are believed that the API server gives then.
    let own = serde_json::from_slice::<OwnStatus>(body).ok();
    let own = own.filter(|own| own.kind == "Status" && own.code == status);
    match (probe, own) {
        (Probe::Prometheus { .. }, None) => of_prometheus(status, body),
        (_, Some(OwnStatus { code: 403, message, .. })) => Answer::Forbidden(message),
        (Probe::Prometheus { .. }, Some(OwnStatus { message, .. })) => Answer::Unknown(message),
        (Probe::Http { .. }, Some(OwnStatus { code: 404 | 503, message, .. })) => Answer::Broken(message),
        (Probe::Http { .. }, Some(OwnStatus { code: 401 | 429 | 504, message, .. })) => {
            Answer::Unknown(message)
        }
        (Probe::Http { status: expected, .. }, _) if *expected == status => Answer::Holds,
        (Probe::Http { status: expected, .. }, _) => {
            Answer::Broken(format!("the Service answered with status {status} instead of {expected}"))
        }
    }
}

/// An error of the API server.
#[derive(Deserialize)]
struct OwnStatus {
    kind: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    code: u16,
}

/// An answer of Prometheus' HTTP API, <https://prometheus.io/docs/prometheus/latest/querying/api/>.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryAnswer {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<QueryData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryData {
    result_type: String,
    result: Value,
}

impl QueryData {
    /// The values of the result. `None` if it is neither a vector nor a scalar.
    fn values(self) -> Option<Vec<String>> {
        match self.result_type.as_str() {
            "vector" => {
                let samples: Vec<Sample> = serde_json::from_value(self.result).ok()?;
                Some(samples.into_iter().map(|sample| sample.value.1).collect())
            }
            "scalar" => {
                serde_json::from_value::<(f64, String)>(self.result).ok().map(|(_, value)| vec![value])
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Sample {
    value: (f64, String),
}

fn of_prometheus(status: u16, body: &[u8]) -> Answer {
    let Ok(QueryAnswer { error, data }) = serde_json::from_slice(body) else {
        return Answer::Unknown(format!("the answer with status {status} is not one of Prometheus"));
    };
    if let Some(error) = error {
        return Answer::Unknown(format!("Prometheus reports: {error}"));
    }
    let Some(values) = data.and_then(QueryData::values) else {
        return Answer::Unknown("Prometheus answered with neither a vector nor a scalar".to_owned());
    };
    if values.is_empty() {
        return Answer::Broken("the result of its expression is empty".to_owned());
    }
    // Prometheus writes a number as text, and one that is not a number as `NaN`.
    let is_true = |value: &&String| value.parse::<f64>().is_ok_and(|value| value != 0.0 && !value.is_nan());
    match values.iter().find(|value| !is_true(value)) {
        Some(value) => Answer::Broken(format!("the result of its expression is {value}")),
        None => Answer::Holds,
    }
}

#[cfg(test)]
mod tests;

//! Checks of the steady state. The platform's policy names them, and a namespace chooses some by
//! name. So no address and no query comes from an annotation.
//!
//! ```yaml
//! prometheus: monitoring/prometheus-operated:9090 # the Service that answers PromQL
//! steadyState:
//!   no-alert:
//!     prometheus: 'absent(ALERTS{alertstate="firing",namespace="$namespace"})'
//!   web-answers:
//!     http: {service: web, port: http, path: /healthz, status: 200}
//!     within: 1s
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, Expr};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::durations;
use crate::prometheus_address::PrometheusAddress;

/// The form of the setting `steady-state`, with an example.
pub const EXPECTED: &str =
    "names of checks that the platform's policy defines, joined with commas, such as `checkout-slo,no-alert`";

/// What an expression writes for the name of the namespace.
pub const NAMESPACE: &str = "$namespace";

/// How long a check may take, unless it says otherwise.
const WITHIN: Duration = Duration::from_secs(2);
/// The longest time that a check may allow itself. A round is at most 30 s late, and asks all checks
/// at once.
const LONGEST: Duration = Duration::from_secs(10);
/// The most checks that a namespace may choose.
const MOST: usize = 10;
/// The longest name of a check, as of a Kubernetes label.
const LONGEST_NAME: usize = 63;

/// The checks that a namespace chose, each once, in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckNames(Vec<String>);

impl CheckNames {
    /// Reads names joined with commas. `None` if one of them can't be a name, or if there are too
    /// many.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut names: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim) {
            if !is_name(name) {
                return None;
            }
            if names.iter().all(|known| known != name) {
                names.push(name.to_owned());
            }
        }
        (names.len() <= MOST).then_some(Self(names))
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for CheckNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= LONGEST_NAME
        && name.bytes().all(|byte| is_letter(byte) || byte == b'-')
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().last().is_some_and(is_letter)
}

/// All checks of the platform's policy, by name. `None` inside if nobody knows the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks(Option<BTreeMap<String, Check>>);

impl Default for Checks {
    /// No checks, as in an empty file.
    fn default() -> Self {
        Self(Some(BTreeMap::new()))
    }
}

impl Checks {
    /// The checks of a policy that the caller may not read. Any name can be one of them.
    #[must_use]
    pub fn not_known() -> Self {
        Self(None)
    }

    /// The check of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Check> {
        self.0.as_ref()?.get(name)
    }

    /// The names of the checks. Empty if nobody knows them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// The checks, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Check> {
        self.0.iter().flat_map(BTreeMap::values)
    }

    /// The Service of the Prometheus that answers checks. `None` if no check asks one in the cluster.
    #[must_use]
    pub fn prometheus(&self) -> Option<&ServiceAddress> {
        self.iter().find_map(|check| match &check.probe {
            Probe::Prometheus { address: PrometheusAddress::Service(service), .. } => Some(service),
            _ => None,
        })
    }

    /// Why the chosen names are not all understood. `None` if they are.
    #[must_use]
    pub fn problem(&self, chosen: &CheckNames) -> Option<String> {
        let defined = self.0.as_ref()?;
        let unknown = chosen.iter().find(|name| !defined.contains_key(*name))?;
        let known: Vec<String> = defined.keys().map(|name| format!("`{name}`")).collect();
        let known = match known.as_slice() {
            [] => "it defines none".to_owned(),
            known => format!("it defines {}", known.join(", ")),
        };
        Some(format!("the platform's policy defines no check `{unknown}`; {known}"))
    }
}

/// One check of the steady state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What the check asks.
    pub probe: Probe,
    /// How long the answer may take. A check without an answer in time is unknown.
    pub within: Duration,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A PromQL expression. It holds if its result is not empty and no value in it is zero.
    Prometheus {
        /// The Prometheus that answers.
        address: PrometheusAddress,
        /// The expression, with [`NAMESPACE`] in place of the name of the namespace.
        expression: String,
    },
    /// A request to a Service of the namespace.
    Http {
        /// The name of the Service, with its port and perhaps a scheme, in the form that the API
        /// server's service proxy takes.
        service: String,
        /// The path of the request.
        path: String,
        /// The status that the answer must have.
        status: u16,
    },
}

impl Probe {
    /// The expression for one namespace. The name of a namespace needs no escape, because it has
    /// only letters, digits and `-`.
    #[must_use]
    pub fn expression(expression: &str, namespace: &str) -> String {
        expression.replace(NAMESPACE, namespace)
    }
}

/// The Service of the platform's Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service, with its port and perhaps a scheme, in the form that the API
    /// server's service proxy takes.
    pub service: String,
}

impl ServiceAddress {
    /// Reads `namespace/service:port` or `namespace/https:service:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, service) = text.split_once('/')?;
        let (name, port) = match service.split(':').collect::<Vec<_>>()[..] {
            [name, port] | ["http" | "https", name, port] => (name, port),
            _ => return None,
        };
        [namespace, name, port]
            .into_iter()
            .all(is_name)
            .then(|| Self { namespace: namespace.to_owned(), service: service.to_owned() })
    }
}

/// A check in the policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct CheckEntry {
    prometheus: Option<Spanned<String>>,
    http: Option<Spanned<HttpEntry>>,
    within: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HttpEntry {
    service: String,
    port: Port,
    #[serde(default = "root")]
    path: String,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    scheme: Scheme,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Name(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    #[default]
    Http,
    Https,
}

fn root() -> String {
    "/".to_owned()
}

fn ok() -> u16 {
    200
}

/// A line of the policy file and what is wrong there.
pub(crate) type Wrong = (u64, String);

/// Reads the checks of the policy file.
pub(crate) fn checks(
    entries: BTreeMap<String, Spanned<CheckEntry>>,
    prometheus: Option<&PrometheusAddress>,
) -> Result<Checks, Wrong> {
    let mut checks = BTreeMap::new();
    for (name, entry) in entries {
        let line = entry.referenced.line();
        if !is_name(&name) {
            let why = "a check's name has lower-case letters, digits and `-`, such as `checkout-slo`";
            return Err((line, format!("steadyState.{name}: {why}")));
        }
        let check = check(entry.value, line, prometheus);
        checks.insert(name.clone(), check.map_err(|(line, why)| (line, format!("steadyState.{name}{why}")))?);
    }
    Ok(Checks(Some(checks)))
}

fn check(entry: CheckEntry, line: u64, prometheus: Option<&PrometheusAddress>) -> Result<Check, Wrong> {
    let probe = match (entry.prometheus, entry.http) {
        (Some(expression), None) => {
            let line = expression.referenced.line();
            let wrong = |why: String| (line, format!(".prometheus: {why}"));
            let address = prometheus.cloned().ok_or_else(|| {
                wrong("the file does not say where Prometheus is; write `prometheus: monitoring/prometheus-operated:9090`".to_owned())
            })?;
            understood(&expression.value).map_err(wrong)?;
            Probe::Prometheus { address, expression: expression.value }
        }
        (None, Some(http)) => {
            let line = http.referenced.line();
            http_probe(http.value).map_err(|why| (line, format!(".http{why}")))?
        }
        _ => return Err((line, ": expected either `prometheus` or `http`".to_owned())),
    };
    let within = match entry.within {
        None => WITHIN,
        Some(within) => {
            durations::parse(&within.value).filter(|within| *within <= LONGEST).ok_or_else(|| {
                let longest = durations::print(LONGEST);
                let why = format!(".within: expected a duration of at most {longest}, such as `2s`");
                (within.referenced.line(), why)
            })?
        }
    };
    Ok(Check { probe, within })
}

fn http_probe(http: HttpEntry) -> Result<Probe, String> {
    let HttpEntry { service, port, path, status, scheme } = http;
    let port = match port {
        Port::Number(number) => number.to_string(),
        Port::Name(name) => name,
    };
    if !is_name(&service) {
        return Err(".service: expected the name of a Service, such as `web`".to_owned());
    }
    if !is_name(&port) || port == "0" {
        return Err(".port: expected a port's number or name, such as `http`".to_owned());
    }
    // The path goes into the address of the request, so it may not end it.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"#%\\\"<>^`{|}".contains(&byte);
    let leaves = path.split(['/', '?']).any(|part| part == "." || part == "..");
    if !path.starts_with('/') || !path.bytes().all(is_plain) || leaves {
        return Err(".path: expected an absolute path, such as `/healthz`".to_owned());
    }
    if !(100..600).contains(&status) {
        return Err(".status: expected an HTTP status, such as `200`".to_owned());
    }
    let service = match scheme {
        Scheme::Http => format!("{service}:{port}"),
        Scheme::Https => format!("https:{service}:{port}"),
    };
    Ok(Probe::Http { service, path, status })
}

/// Whether Prometheus could answer the expression with a vector or a scalar.
fn understood(expression: &str) -> Result<(), String> {
    let filled = Probe::expression(expression, "namespace");
    let parsed: Expr = parser::parse(&filled).map_err(|why| format!("not PromQL: {}", why.trim()))?;
    match parsed.value_type() {
        ValueType::Vector | ValueType::Scalar => Ok(()),
        other => Err(format!("expected an expression that gives a vector or a scalar, not a {other}")),
    }
}

#[cfg(test)]
mod tests;

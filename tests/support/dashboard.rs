//! The dashboard: its file, its queries, and what a real Prometheus answers to them.

use std::process::Command;

use serde_json::Value;

use crate::cluster::run;
use crate::repository::read;

/// The dashboard's file.
pub const FILE: &str = "manifests/components/grafana/pure-chaos.json";

/// Queries that may have an empty answer in a healthy cluster: panel, letter, reason.
pub const MAY_BE_EMPTY: [(&str, &str, &str); 1] =
    [("Oldest pending", "A", "no recovery was pending at the moment of a scrape")];

/// Queries whose answer may be 0 throughout in a healthy cluster. Each other query was above 0 at
/// some moment of the demonstration. Counters begin at 0, so the presence of a number alone proves
/// nothing.
pub const MAY_BE_ZERO: [(&str, &str, &str); 5] = [
    ("Halted", "A", "nobody halted"),
    ("Pending", "A", "no recovery was pending at the moment of a scrape"),
    ("Kills that failed", "A", "none did"),
    ("Reviews that failed", "A", "none did"),
    ("Endpoints unseen", "A", "all were seen"),
];

/// What the demonstration always makes, as a series that was above 0: panel, letter, label, value.
pub const MADE: [(&str, &str, &str, &str); 9] = [
    ("Rounds by outcome", "A", "outcome", "killed"),
    ("Why not: reasons of refusal", "A", "reason", "blocked_by_pdb"),
    ("Kills and container restarts by workload", "A", "target_namespace", "learning-place"),
    ("Kills and container restarts by workload", "B", "target_namespace", "learning-place"),
    ("Outcomes of recoveries", "A", "outcome", "recovered"),
    ("Outcomes of hypotheses", "A", "outcome", "held"),
    ("What broke, and where", "A", "check", "front-answers"),
    ("Refusals by reason", "A", "reason", "blocked_by_pdb"),
    ("Admissions", "A", "decision", "allow"),
];

/// The values that Grafana puts in place of its variables if everything is selected, with intervals
/// that fit a scrape every 2 to 15 seconds.
const VALUES: [(&str, &str); 6] = [
    ("$__rate_interval", "1m"),
    ("$__interval", "15s"),
    ("$__range", "30m"),
    ("$job", ".+"),
    ("$namespace", ".+"),
    ("$workload", ".+"),
];

/// How far back the queries look, in seconds.
const PAST: i64 = 1_800;

/// One query to Prometheus.
#[derive(Debug)]
pub struct Query {
    /// The panel's title, or the annotation's or variable's name.
    pub place: String,
    /// Its letter in the panel; empty for annotations and variables.
    pub letter: String,
    /// The query, with Grafana's variables.
    pub expr: String,
}

impl Query {
    /// The query as Grafana sends it if everything is selected.
    #[must_use]
    pub fn substituted(&self) -> String {
        let expr = VALUES.iter().fold(self.expr.clone(), |expr, (name, value)| expr.replace(name, value));
        assert!(!expr.contains('$'), "{}: {expr}", self.place);
        expr
    }
}

/// The whole dashboard.
pub fn dashboard() -> Value {
    serde_json::from_str(&read(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"))
}

/// The elements of a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// A field's text.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field}: {value}"))
}

/// The panels that show something, which excludes the rows' headings.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row").collect()
}

/// The variables that Grafana asks Prometheus for: `label_values(series, label)`.
pub fn variables(dashboard: &Value) -> Vec<&Value> {
    list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query").collect()
}

/// Every query: of panels, annotations and variables.
pub fn queries() -> Vec<Query> {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for panel in panels(&dashboard) {
        queries.extend(list(&panel["targets"]).iter().map(|target| Query {
            place: text(panel, "title").to_owned(),
            letter: text(target, "refId").to_owned(),
            expr: text(target, "expr").to_owned(),
        }));
    }
    queries.extend(list(&dashboard["annotations"]["list"]).iter().map(|annotation| Query {
        place: text(annotation, "name").to_owned(),
        letter: String::new(),
        expr: text(annotation, "expr").to_owned(),
    }));
    for variable in variables(&dashboard) {
        let query = text(variable, "query");
        let asked =
            query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "));
        let (series, label) = asked.unwrap_or_else(|| panic!("no label_values(series, label): {query}"));
        queries.push(Query {
            place: text(variable, "name").to_owned(),
            letter: String::new(),
            expr: format!("count by ({label}) ({series})"),
        });
    }
    queries
}

/// What is wrong with the answers of the Prometheus at this address, such as
/// `http://127.0.0.1:9095`, for the half hour after a demonstration. Prometheus has to understand
/// each query, and [`fault`] must find nothing.
pub fn unanswered(address: &str, now: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    for query in queries() {
        let (start, end) = ((now - PAST).to_string(), now.to_string());
        let output = run(Command::new("promtool")
            .args(["query", "range", "--format=json", "--step=15s", "--start", &start, "--end", &end])
            .args([address, &query.substituted()]));
        let fault = if output.ok {
            fault(&query, &serde_json::from_str(&output.stdout).unwrap())
        } else {
            Some(output.stderr.trim().to_owned())
        };
        let Query { place, letter, expr } = &query;
        wrong.extend(fault.map(|fault| format!("{place} {letter}: {fault}\n  {expr}")));
    }
    wrong
}

/// What an answer to a range query lacks. Except for [`MAY_BE_EMPTY`] and [`MAY_BE_ZERO`], an
/// answer needs a number above 0, and it needs each series of [`MADE`].
pub fn fault(query: &Query, answer: &Value) -> Option<String> {
    let is_in = |exceptions: &[(&str, &str, &str)]| {
        exceptions.iter().any(|(panel, letter, _)| *panel == query.place && *letter == query.letter)
    };
    let made = MADE.iter().filter(|(panel, letter, ..)| *panel == query.place && *letter == query.letter);
    for (_, _, label, value) in made {
        let series = list(answer).iter().filter(|series| series["metric"][label] == **value);
        if !series.flat_map(numbers).any(|number| number > 0.0) {
            return Some(format!("{label} {value} was never above 0"));
        }
    }
    let all: Vec<f64> = list(answer).iter().flat_map(numbers).collect();
    if all.is_empty() && !is_in(&MAY_BE_EMPTY) {
        return Some("no number".to_owned());
    }
    let is_above = all.iter().any(|number| *number > 0.0);
    (!is_above && !is_in(&MAY_BE_EMPTY) && !is_in(&MAY_BE_ZERO)).then(|| "never above 0".to_owned())
}

/// The finite numbers of a series. A quantile of nothing is not a finite number.
fn numbers(series: &Value) -> impl Iterator<Item = f64> {
    let samples = list(&series["values"]).iter();
    samples.filter_map(|sample| sample[1].as_str()?.parse().ok()).filter(|number: &f64| number.is_finite())
}

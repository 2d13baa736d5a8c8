//! The dashboard: its file, the queries in it, and what a real Prometheus answers to them.

use std::process::Command;

use serde_json::Value;

use crate::cluster::run;
use crate::repository::read;

/// Where it is kept.
pub const FILE: &str = "manifests/components/grafana/pure-chaos.json";

/// Queries that may answer nothing where all is well: panel, letter, reason.
pub const MAY_BE_EMPTY: [(&str, &str, &str); 3] = [
    ("Why not: reasons of refusal", "A", "nothing was refused"),
    ("Refusals by reason", "A", "nothing was refused"),
    ("Oldest pending", "A", "no recovery was pending at the moment of a scrape"),
];

/// What Grafana puts in the place of its variables where all is chosen, and intervals that fit a scrape every 2 to 15 seconds.
const VALUES: [(&str, &str); 6] = [
    ("$__rate_interval", "1m"),
    ("$__interval", "15s"),
    ("$__range", "30m"),
    ("$job", ".+"),
    ("$namespace", ".+"),
    ("$workload", ".+"),
];

/// How far back answers may lie, in seconds.
const PAST: i64 = 1_800;

/// One question to Prometheus.
#[derive(Debug)]
pub struct Query {
    /// The panel's title, or the annotation's or variable's name.
    pub place: String,
    /// Its letter in the panel; empty for annotations and variables.
    pub letter: String,
    /// With Grafana's variables.
    pub expr: String,
}

impl Query {
    /// As Grafana sends it where all is chosen.
    #[must_use]
    pub fn substituted(&self) -> String {
        let expr = VALUES.iter().fold(self.expr.clone(), |expr, (name, value)| expr.replace(name, value));
        assert!(!expr.contains('$'), "{}: {expr}", self.place);
        expr
    }
}

/// The whole of it.
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

/// The panels that show something: all but the rows' headings.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row").collect()
}

/// The variables that Prometheus is asked for: `label_values(series, label)`.
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

/// What is wrong with the answers of the Prometheus at this address, such as `http://127.0.0.1:9095`: each query has to be understood and,
/// but for [`MAY_BE_EMPTY`], to have had a number for an answer within the last half hour.
pub fn unanswered(address: &str, now: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    for query in queries() {
        let (start, end) = ((now - PAST).to_string(), now.to_string());
        let output = run(Command::new("promtool")
            .args(["query", "range", "--format=json", "--step=15s", "--start", &start, "--end", &end])
            .args([address, &query.substituted()]));
        let Query { place, letter, expr } = &query;
        if !output.ok {
            wrong.push(format!("{place} {letter}: {}\n  {expr}", output.stderr.trim()));
            continue;
        }
        let answer: Value = serde_json::from_str(&output.stdout).unwrap();
        let spared =
            MAY_BE_EMPTY.iter().any(|(panel, of, _)| (panel, of) == (&place.as_str(), &letter.as_str()));
        if !spared && !has_number(&answer) {
            wrong.push(format!("{place} {letter}: no number\n  {expr}"));
        }
    }
    wrong
}

/// Whether some sample of a range query's answer is a finite number: a quantile of nothing is not.
fn has_number(answer: &Value) -> bool {
    let samples = list(answer).iter().flat_map(|series| list(&series["values"]));
    samples.filter_map(|sample| sample[1].as_str()?.parse::<f64>().ok()).any(f64::is_finite)
}

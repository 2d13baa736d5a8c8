//! Alerts under Prometheus's own `promtool`, which `make test` installs before the tests that need
//! a cluster.

use std::process::Command;

use serde_json::{Value, json};

use crate::alert_rules::{Rule, groups, rules};
use crate::cluster::run;

/// An alert that fires.
#[derive(Debug, Clone, Copy)]
pub struct Fires<'a> {
    /// The alert's labels without `severity`.
    pub labels: &'a [(&'a str, &'a str)],
    /// The values of the templates in its texts. `{{ $labels.… }}` need not be named.
    pub said: &'a [(&'a str, &'a str)],
}

/// One story of some series, and what an alert says at its end.
pub struct Case<'a> {
    /// What the case is about.
    pub about: &'a str,
    /// Each series: name and labels, values.
    pub series: Vec<(&'a str, String)>,
    /// The time at which the test asks for the alert.
    pub at: &'a str,
    /// The alert, if it fires then.
    pub fires: Option<Fires<'a>>,
}

/// A case in which the alert is silent at the end.
#[must_use]
pub fn silent<'a>(about: &'a str, series: &[(&'a str, &str)], at: &'a str) -> Case<'a> {
    Case { about, series: owned(series), at, fires: None }
}

/// A case in which the alert fires at the end, with these labels and these values of the templates
/// in its texts.
#[must_use]
pub fn fires<'a>(
    about: &'a str,
    series: &[(&'a str, &str)],
    at: &'a str,
    labels: &'a [(&'a str, &'a str)],
    said: &'a [(&'a str, &'a str)],
) -> Case<'a> {
    Case { about, series: owned(series), at, fires: Some(Fires { labels, said }) }
}

fn owned<'a>(series: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    series.iter().map(|(name, values)| (*name, (*values).to_owned())).collect()
}

/// Lets promtool play each case. There must be cases in which the alert fires, and cases in which
/// it doesn't.
pub fn check(alert: &str, interval: &str, cases: &[Case]) {
    let firing = cases.iter().filter(|case| case.fires.is_some()).count();
    assert!((1..cases.len()).contains(&firing), "{alert} fires in {firing} of {} cases", cases.len());
    let rule = rules().into_iter().find(|rule| rule.name == alert).unwrap_or_else(|| panic!("{alert}"));
    let tests: Vec<Value> = cases.iter().map(|case| told(&rule, interval, case)).collect();
    let folder = std::env::temp_dir().join(format!("pure-chaos-{alert}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // The file contains only the alert's own group, because promtool evaluates all groups in it at
    // each step.
    let is_own = |group: &Value| group["rules"].as_array().unwrap().iter().any(|rule| rule["alert"] == alert);
    let own: Vec<Value> = groups().into_iter().filter(is_own).collect();
    std::fs::write(folder.join("rules.json"), json!({"groups": own}).to_string()).unwrap();
    let tests = json!({"rule_files": ["rules.json"], "evaluation_interval": interval, "tests": tests});
    std::fs::write(folder.join("tests.json"), tests.to_string()).unwrap();
    let output = run(Command::new("promtool").args(["test", "rules"]).arg(folder.join("tests.json")));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.ok, "{alert}: {}{}", output.stdout, output.stderr);
}

fn told(rule: &Rule, interval: &str, case: &Case) -> Value {
    let series: Vec<Value> =
        case.series.iter().map(|(name, values)| json!({"series": name, "values": values})).collect();
    let alerts: Vec<Value> = case.fires.iter().map(|alert| expected(rule, *alert)).collect();
    json!({
        "name": case.about,
        "interval": interval,
        "input_series": series,
        "alert_rule_test": [{"alertname": rule.name, "eval_time": case.at, "exp_alerts": alerts}],
    })
}

fn expected(rule: &Rule, Fires { labels, said }: Fires) -> Value {
    let mut all = json!({"severity": rule.labels["severity"]});
    let mut annotations = rule.annotations.clone();
    for text in annotations.values_mut() {
        for (template, becomes) in said {
            *text = text.replace(template, becomes);
        }
        for (label, value) in labels {
            *text = text.replace(&format!("{{{{ $labels.{label} }}}}"), value);
        }
        assert!(!text.contains("{{"), "{text}");
    }
    for (label, value) in labels {
        all[*label] = json!(value);
    }
    json!({"exp_labels": all, "exp_annotations": annotations})
}

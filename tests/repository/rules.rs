//! Compares the rules of component `prometheus-operator` with the binaries and the documents.
//! `tests/tools/alerts.rs` and `tests/tools/alerts_webhook.rs` test that each alert fires.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tests::alert_rules::{Rule, objects, rules};
use tests::exported::registries;
use tests::repository::read;

const RUNBOOKS: &str = "https://github.com/pure-chaos/pure-chaos/blob/main/docs/runbooks.md#";

fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(Rule::is_alert).collect()
}

#[test]
fn every_alert_says_what_it_is_and_has_a_section_in_the_runbooks() {
    let runbooks = read("docs/runbooks.md");
    let sections: Vec<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut named = Vec::new();
    for Rule { name, labels, annotations, .. } in alerts() {
        let keys: Vec<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["description", "runbook_url", "summary"], "{name}");
        assert!(["info", "warning"].contains(&labels["severity"].as_str()), "{name}: {labels:?}");
        let (summary, description) = (&annotations["summary"], &annotations["description"]);
        assert!(
            summary.ends_with('.') && summary.len() < 120 && !summary.contains('\n'),
            "{name}: {summary}"
        );
        assert!(description.ends_with('.') || description.ends_with("{{ end }}"), "{name}: {description}");
        assert_eq!(annotations["runbook_url"], format!("{RUNBOOKS}{}", name.to_lowercase()));
        named.push(name);
    }
    assert_eq!(sections, named, "one section for each, in the same order, and no other");
    for section in runbooks.split("\n## ").skip(1) {
        let asked: Vec<_> = section.lines().filter(|line| line.starts_with("**")).collect();
        let [means, look, act] = asked[..] else { panic!("{section}") };
        assert!(means.starts_with("**It means**"), "{section}");
        assert!(look.starts_with("**Look at**") && section.contains("\nkubectl "), "{section}");
        assert!(act.starts_with("**Do**"), "{section}");
    }
}

/// `check` makes sure that there are cases of both kinds.
#[test]
fn every_alert_is_tried() {
    let source = ["tests/tools/alerts.rs", "tests/tools/alerts_webhook.rs"].map(read).concat();
    let tried: BTreeSet<&str> = source
        .split("check(")
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    let alerts = alerts();
    assert_eq!(tried, alerts.iter().map(|alert| alert.name.as_str()).collect());
}

#[test]
fn every_rule_is_in_the_document() {
    let page = read("docs/alerts.md");
    let section = page.split("\n## What there is\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> =
        rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" | ")).collect();
    let known: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    let mut missing = Vec::new();
    for Rule { name, labels, .. } in rules() {
        let row = labels.get("severity").map(|severity| format!("| `{name}` | {severity}"));
        let is_known = match &row {
            Some(row) => known.contains(row.as_str()),
            None => known.iter().any(|row| row.starts_with(&format!("| `{name}` | "))),
        };
        if !is_known {
            missing.push(name);
        }
    }
    assert_eq!((missing, documented.len()), (vec![], rules().len()));
}

/// The names that are neither labels nor words of PromQL, and the label values that the rule asks
/// for.
fn parse(expr: &str) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
    // Labels in `by (…)` and `on (…)` are among the names too. The test looks for them among the
    // labels.
    let mut rest = expr;
    while let Some(open) = rest.find('{') {
        let close = open + rest[open..].find('}').unwrap();
        for matcher in rest[open + 1..close].split(',') {
            let at = matcher.find(['=', '!']).unwrap();
            let wanted = matcher[at..].trim_start_matches(['=', '!', '~']).trim_matches('"');
            values.extend(wanted.split('|').map(|value| (matcher[..at].to_owned(), value.to_owned())));
        }
        rest = &rest[close..];
    }
    let mut quoted = false;
    let without_matchers: String = expr
        .chars()
        .map(|c| {
            quoted = c == '{' || (quoted && c != '}');
            if quoted || c == '}' { ' ' } else { c }
        })
        .collect();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in without_matchers.split(|c| !is_part(c)) {
        if word.starts_with(|c: char| c.is_alphabetic()) {
            names.insert(word.to_owned());
        }
    }
    (names, values)
}

const WORDS: [&str; 14] = [
    "absent",
    "and",
    "avg_over_time",
    "by",
    "increase",
    "last_over_time",
    "max",
    "min",
    "offset",
    "on",
    "or",
    "sum",
    "time",
    "unless",
];

/// Series of others: Prometheus's about each target, and the API server's about its webhooks.
const FOREIGN: [&str; 2] = ["up", "apiserver_admission_webhook_rejection_count"];

/// The label values of the API server's series: the names of our webhooks, and a word of
/// Kubernetes.
fn foreign_labels() -> BTreeMap<String, BTreeSet<String>> {
    let configuration: Value =
        serde_saphyr::from_str(&read("manifests/base/webhook-configuration.yaml")).unwrap();
    let webhooks = configuration["webhooks"].as_array().unwrap();
    let names = webhooks.iter().map(|webhook| webhook["name"].as_str().unwrap().to_owned());
    [
        ("name".to_owned(), names.collect()),
        ("error_type".to_owned(), ["calling_webhook_error".to_owned()].into()),
    ]
    .into()
}

#[test]
fn every_series_of_a_rule_is_one_that_is_exported() {
    let mut labels = foreign_labels();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for family in registries().iter().flat_map(prometheus::Registry::gather) {
        let name = family.name().to_owned();
        if format!("{:?}", family.get_field_type()) == "HISTOGRAM" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        } else {
            names.insert(name);
        }
        for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
            labels.entry(pair.name().to_owned()).or_default().insert(pair.value().to_owned());
        }
    }
    // The labels that Prometheus adds to each series.
    names.extend(["job", "instance"].into_iter().chain(FOREIGN).map(str::to_owned));
    names.extend(labels.keys().cloned());
    names.extend(WORDS.map(str::to_owned));
    let mut series = 0;
    for Rule { name, expr, .. } in rules() {
        let (used, values) = parse(&expr);
        for word in &used {
            assert!(names.contains(word), "{name}: nobody exports {word}");
        }
        for (label, value) in values {
            assert!(labels[&label].contains(&value), "{name}: {label} is never {value:?}");
        }
        series += used.iter().filter(|word| word.starts_with("pure_chaos_")).count();
        // Later rules may use the series of a recording rule.
        names.insert(name);
    }
    assert!(series > 12, "{series}");
}

#[test]
fn no_label_is_one_that_a_scrape_sets() {
    let taken =
        ["namespace", "pod", "container", "service", "endpoint", "instance", "job", "node", "prometheus"];
    let mut seen = BTreeSet::new();
    for family in registries().iter().flat_map(prometheus::Registry::gather) {
        for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
            let label = pair.name();
            assert!(!taken.contains(&label) && !label.starts_with("exported_"), "{}: {label}", family.name());
            seen.insert(label.to_owned());
        }
    }
    assert!(seen.contains("target_namespace"), "{seen:?}");
    // Neither a rule nor its text uses a name that a scrape would make of such a label.
    for Rule { name, expr, annotations, .. } in rules() {
        let texts: String = annotations.into_values().collect();
        assert!(!expr.contains("exported_") && !texts.contains("exported_"), "{name}");
    }
}

#[test]
fn every_part_is_scraped_by_the_name_of_its_port() {
    let monitors: Vec<Value> =
        objects().into_iter().filter(|object| object["kind"] == "PodMonitor").collect();
    for part in ["agent", "webhook", "certs"] {
        let text = read(&format!("manifests/base/{part}.yaml"));
        let deployment: Value = serde_saphyr::from_multiple::<Value>(&text)
            .unwrap()
            .into_iter()
            .find(|object| object["kind"] == "Deployment")
            .unwrap();
        let template = &deployment["spec"]["template"];
        let monitor = monitors.iter().find(|monitor| monitor["metadata"]["name"] == part).unwrap();
        let (selector, pods) = (&monitor["spec"]["selector"]["matchLabels"], &template["metadata"]["labels"]);
        let component = "app.kubernetes.io/component";
        assert_eq!(selector[component], pods[component]);
        // The kustomization adds the other label to all its objects.
        assert_eq!(selector.as_object().unwrap().len(), 2);
        assert_eq!(selector["app.kubernetes.io/name"], "pure-chaos");
        let port = &monitor["spec"]["podMetricsEndpoints"][0];
        assert_eq!(port, &json!({"port": "metrics"}), "nothing that overrides labels");
        let ports = template["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(ports.iter().any(|open| open["name"] == port["port"]), "{part}");
    }
    assert_eq!(monitors.len(), 3);
}

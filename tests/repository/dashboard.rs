//! Compares the dashboard with what Grafana accepts, what Grafana's linter asks for, and what the
//! binaries export.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::MetricType;
use serde_json::{Value, json};
use tests::dashboard::{
    FILE, MADE, MAY_BE_EMPTY, MAY_BE_ZERO, Query, dashboard, fault, list, panels, queries, text, variables,
};
use tests::exported::registries;
use tests::repository::read;

/// The labels by which a panel selects series, and their variables. They apply to each metric that
/// has the label.
const CHOICES: [(&str, &str); 2] = [("target_namespace", "namespace"), ("workload", "workload")];

/// The units of Grafana that the dashboard uses.
const UNITS: [&str; 7] = ["short", "s", "percentunit", "reqps", "string", "bool_yes_no", "dateTimeFromNow"];

/// One selector in a query.
#[derive(Debug)]
struct Selector {
    /// The function directly around the selector, if any.
    function: String,
    metric: String,
    matchers: Vec<String>,
    /// The range in brackets after the selector.
    range: Option<String>,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every selector of our metrics. Each one must have matchers, and none of their values contains a
/// brace or a comma.
fn selectors(expr: &str) -> Vec<Selector> {
    expr.match_indices("pure_chaos_")
        .map(|(start, _)| {
            let (before, rest) = expr.split_at(start);
            let (metric, rest) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
            let inner = rest.strip_prefix('{').unwrap_or_else(|| panic!("{metric} has no matchers: {expr}"));
            let (matchers, after) = inner.split_once('}').unwrap();
            let call = before.strip_suffix('(').unwrap_or_default();
            Selector {
                function: call[call.rfind(|c| !is_name(c)).map_or(0, |at| at + 1)..].to_owned(),
                metric: metric.to_owned(),
                matchers: matchers.split(',').map(str::to_owned).collect(),
                range: after.strip_prefix('[').and_then(|range| Some(range.split_once(']')?.0.to_owned())),
            }
        })
        .collect()
}

/// For each exported series name: its labels, and whether the series only grows.
fn exported() -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let mut exported = BTreeMap::new();
    for family in registries().iter().flat_map(|registry| registry.gather()) {
        let labels = family.get_metric().iter().flat_map(|metric| metric.get_label());
        let labels: BTreeSet<String> = labels.map(|pair| pair.name().to_owned()).collect();
        let (suffix, grows) = match family.get_field_type() {
            MetricType::HISTOGRAM => ("_bucket", true),
            kind => ("", kind == MetricType::COUNTER),
        };
        exported.insert(format!("{}{suffix}", family.name()), (labels, grows));
    }
    exported
}

#[test]
fn it_stays_the_same_dashboard_and_nobody_edits_it_in_place() {
    let dashboard = dashboard();
    assert_eq!((text(&dashboard, "uid"), text(&dashboard, "title")), ("pure-chaos", "Pure Chaos"));
    assert_eq!(dashboard["editable"], false);
    assert_eq!(dashboard["schemaVersion"], 39, "that of Grafana 10.4 and 11; later ones migrate it");
    assert!(dashboard["id"].is_null(), "the number of one Grafana's database");
}

#[test]
fn the_data_source_is_chosen_once_and_used_everywhere() {
    fn check(value: &Value) -> usize {
        match value {
            Value::Object(fields) => {
                let here = fields.get("datasource").map_or(0, |source| {
                    assert_eq!(source, &json!({"type": "prometheus", "uid": "${datasource}"}), "{value}");
                    1
                });
                here + fields.values().map(check).sum::<usize>()
            }
            Value::Array(elements) => elements.iter().map(check).sum(),
            _ => 0,
        }
    }
    let dashboard = dashboard();
    let first = &dashboard["templating"]["list"][0];
    assert_eq!(
        ["type", "name", "label", "query"].map(|field| text(first, field)),
        ["datasource", "datasource", "Data source", "prometheus"]
    );
    let targets: usize = panels(&dashboard).iter().map(|panel| list(&panel["targets"]).len()).sum();
    let annotations = list(&dashboard["annotations"]["list"]).len();
    let users = panels(&dashboard).len() + targets + annotations + variables(&dashboard).len();
    assert_eq!(check(&dashboard), users, "each has one");
}

#[test]
fn each_variable_offers_what_the_ones_before_it_leave() {
    let dashboard = dashboard();
    let variables = variables(&dashboard);
    let names: Vec<_> = variables.iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(names, ["job", "namespace", "workload"]);
    assert_eq!(text(variables[0], "query"), "label_values(pure_chaos_build_info, job)", "of all three parts");
    for variable in variables {
        let name = text(variable, "name");
        assert_eq!(text(variable, "label"), format!("{}{}", name[..1].to_uppercase(), &name[1..]));
        assert_eq!((&variable["multi"], &variable["includeAll"]), (&json!(true), &json!(true)), "{name}");
        assert_eq!((&variable["allValue"], &variable["refresh"]), (&json!(".+"), &json!(2)), "{name}");
    }
}

/// This test leaves out the linter's rules on `instance`, for the reason in
/// `manifests/components/grafana/.lint`.
#[test]
fn every_selector_is_of_what_is_exported_and_chosen() {
    let exported = exported();
    for query in queries().iter().filter(|query| query.place != "job") {
        let (place, expr) = (&query.place, &query.expr);
        let selectors = selectors(expr);
        assert!(!selectors.is_empty(), "{place}: {expr}");
        for Selector { metric, matchers, .. } in selectors {
            let (labels, _) =
                exported.get(&metric).unwrap_or_else(|| panic!("{place}: nobody exports {metric}"));
            assert_eq!(matchers[0], r#"job=~"$job""#, "{place}: {expr}");
            for (label, variable) in CHOICES {
                // The query of a variable can't be limited by the variable itself or by a later
                // one.
                let wanted = labels.contains(label)
                    && !(place == "workload" && label == place)
                    && place != "namespace";
                let matcher = format!("{label}=~\"${variable}\"");
                assert_eq!(matchers.contains(&matcher), wanted, "{place}: {matcher} in {expr}");
            }
            for matcher in &matchers[1..] {
                let label = &matcher[..matcher.find(|c| !is_name(c)).unwrap()];
                assert!(labels.contains(label), "{place}: {metric} has no {label}");
            }
        }
    }
}

#[test]
fn what_grows_is_seen_through_a_range_that_fits() {
    let exported = exported();
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        for target in list(&panel["targets"]) {
            let expr = text(target, "expr");
            let fitting = if target["instant"] == true { "$__range" } else { "$__rate_interval" };
            assert_ne!(target["instant"], target["range"], "{expr}");
            for selector in selectors(expr) {
                let grows = exported[&selector.metric].1;
                let through = ["rate", "increase"].contains(&selector.function.as_str());
                assert_eq!(through, grows, "{expr}");
                assert_eq!(selector.range.as_deref(), grows.then_some(fitting), "{expr}");
            }
        }
    }
}

#[test]
fn legends_name_labels_that_the_answer_has() {
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        for target in list(&panel["targets"]) {
            let (expr, legend) = (text(target, "expr"), text(target, "legendFormat"));
            assert!(!legend.is_empty(), "{expr}");
            let kept: BTreeSet<&str> = expr
                .split("by (")
                .skip(1)
                .flat_map(|rest| rest.split(')').next().unwrap().split(", "))
                .collect();
            for label in legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()) {
                assert!(kept.contains(label), "{legend}: {expr}");
            }
            // Several lines with the same name could not be told apart.
            if text(target, "format") == "time_series" {
                let dropped = kept
                    .iter()
                    .any(|label| !legend.contains(*label) && !["le", "workload_kind"].contains(label));
                assert!(!dropped, "{legend}: {expr}");
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(text(panel, "description").ends_with('.'), "{title}");
        let kind = text(panel, "type");
        assert!(["stat", "timeseries", "table", "bargauge", "heatmap"].contains(&kind), "{title}: {kind}");
        assert!(UNITS.contains(&text(&panel["fieldConfig"]["defaults"], "unit")), "{title}");
        assert!(panel["fieldConfig"]["overrides"].is_array() && panel["options"].is_object(), "{title}");
        let letters: Vec<_> = list(&panel["targets"]).iter().map(|target| text(target, "refId")).collect();
        assert!(letters.starts_with(&["A"]) && letters.is_sorted_by(|a, b| a < b), "{title}: {letters:?}");
        let format = list(&panel["targets"]).iter().all(|target| match kind {
            "heatmap" => target["format"] == "heatmap",
            "table" => target["format"] == "table" && target["instant"] == true,
            "timeseries" => target["format"] == "time_series" && target["range"] == true,
            _ => target["format"] == "time_series" && target["instant"] == true,
        });
        assert!(format, "{title}");
    }
}

#[test]
fn an_answer_is_one_that_only_the_demonstration_can_give() {
    let find = |(panel, letter): (&str, &str)| {
        let found = queries().into_iter().find(|query| query.place == panel && query.letter == letter);
        found.unwrap_or_else(|| panic!("no query {letter} in {panel}"))
    };
    let answer = |label: &str, value: &str, numbers: [&str; 2]| json!([{"metric": {label: value}, "values": [[1, numbers[0]], [2, numbers[1]]]}]);
    let found = |query: &Query, numbers| fault(query, &answer("le", "1", numbers));
    let kills = find(("Kills", "A"));
    assert_eq!(found(&kills, ["0", "3"]), None);
    assert!(found(&kills, ["0", "0"]).is_some(), "a counter that only began");
    assert!(found(&kills, ["NaN", "+Inf"]).is_some() && fault(&kills, &json!([])).is_some());
    for (panel, letter, reason) in MAY_BE_ZERO {
        let query = find((panel, letter));
        assert_eq!(found(&query, ["0", "0"]), None, "{reason}");
        assert!(fault(&query, &json!([])).is_some(), "{panel}");
    }
    for (panel, letter, reason) in MAY_BE_EMPTY {
        assert_eq!(fault(&find((panel, letter)), &json!([])), None, "{reason}");
    }
    for (panel, letter, label, value) in MADE {
        let query = find((panel, letter));
        assert!(query.expr.contains(label), "{panel} does not tell {label} apart");
        assert_eq!(fault(&query, &answer(label, value, ["0", "1"])), None, "{panel}");
        assert!(fault(&query, &answer(label, "another", ["0", "1"])).is_some(), "{panel}");
        assert!(fault(&query, &answer(label, value, ["0", "0"])).is_some(), "{panel}");
    }
}

/// How often Prometheus scrapes, in seconds, if neither its owner nor a PodMonitor sets an
/// interval. This is Prometheus Operator's default.
const SCRAPE: u64 = 30;

/// Grafana's `$__rate_interval` is the step plus a scrape, and at least four scrapes. The first
/// part shows each increment in one bar, the second in more.
#[test]
fn no_increment_is_in_two_bars() {
    let monitors = read("manifests/components/prometheus-operator/pod-monitors.yaml");
    let says = |line: &str| line.trim_start_matches([' ', '-']).starts_with("interval:");
    assert!(!monitors.lines().any(says), "the PodMonitors leave it to Prometheus");
    let dashboard = dashboard();
    let mut stepping = 0;
    for panel in panels(&dashboard) {
        let mut exprs = list(&panel["targets"]).iter().map(|target| text(target, "expr"));
        if exprs.any(|expr| expr.contains("increase(") && expr.contains("$__rate_interval")) {
            let step =
                text(panel, "interval").strip_suffix('m').expect("minutes").parse::<u64>().unwrap() * 60;
            assert!(step >= 3 * SCRAPE, "{}: {step} s", text(panel, "title"));
            stepping += 1;
        }
    }
    assert!(stepping > 5, "{stepping}");
}

#[test]
fn nothing_is_divided_by_nothing() {
    let divided: Vec<String> =
        queries().into_iter().filter(|query| query.expr.contains(" / ")).map(|query| query.expr).collect();
    for expr in &divided {
        let below = expr.split_once(" / ").unwrap().1;
        assert!(below.starts_with("(sum") && below.ends_with(" > 0)"), "0 / 0 is shown as NaN: {expr}");
    }
    assert_eq!(divided.len(), 3);
    let dashboard = dashboard();
    let shares = panels(&dashboard).into_iter().filter(|panel| panel.to_string().contains("percentunit"));
    for panel in shares {
        let fields = &panel["fieldConfig"];
        let overridden = list(&fields["overrides"]).first().map(|by| list(&by["properties"]));
        let decimals = overridden.map_or(&fields["defaults"]["decimals"], |properties| {
            &properties.iter().find(|property| property["id"] == "decimals").unwrap()["value"]
        });
        assert_eq!(decimals, 1, "{}: 99.6 % is not all", text(panel, "title"));
    }
}

#[test]
fn panels_have_their_own_name_number_and_place() {
    let dashboard = dashboard();
    let mut titles = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut last = 0;
    for panel in list(&dashboard["panels"]) {
        let title = text(panel, "title");
        assert!(titles.insert(title), "two are called {title}");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is beyond the grid of 24 columns");
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            assert!(taken.insert(cell), "{title} lies on another panel");
        }
        assert!(y >= last, "{title} comes before what is above it");
        // A heading spans its row, and its panels are below it.
        if panel["type"] == "row" {
            assert_eq!((x, w, h), (0, 24, 1), "{title}");
        }
        last = y;
    }
    let bottom = taken.iter().map(|(_, line)| line + 1).max().unwrap();
    assert_eq!(taken.len() as u64, 24 * bottom, "there is a hole");
}

#[test]
fn the_component_is_made_of_the_file_that_people_import() {
    let folder = FILE.rsplit_once('/').unwrap().0;
    let component: Value = serde_saphyr::from_str(&read(&format!("{folder}/kustomization.yaml"))).unwrap();
    let made = &component["configMapGenerator"][0];
    assert_eq!(made["files"], json!([&FILE[folder.len() + 1..]]));
    assert_eq!(made["options"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(made["options"]["disableNameSuffixHash"], true);
    // kubectl keeps the applied object in an annotation, and annotations may have 256 KiB.
    assert!(read(FILE).len() < 100_000);
}

#[test]
fn the_page_shows_the_annotations_as_they_are() {
    let page = read("docs/dashboard.md");
    let shown: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let chosen = r#"job=~"$job",target_namespace=~"$namespace",workload=~"$workload""#;
    let dashboard = dashboard();
    let annotations: Vec<Value> = list(&dashboard["annotations"]["list"])
        .iter()
        .map(|annotation| {
            let mut annotation = annotation.clone();
            // Another dashboard doesn't have our variables.
            annotation["expr"] =
                json!(text(&annotation, "expr").replace(chosen, r#"target_namespace="learning-place""#));
            annotation
        })
        .collect();
    assert_eq!(shown, annotations);
    for panel in list(&dashboard["panels"]).iter().filter(|panel| panel["type"] == "row") {
        assert!(page.contains(&format!("**{}**", text(panel, "title"))), "{panel}");
    }
}

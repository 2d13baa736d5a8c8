use super::*;
use crate::platform::PlatformPolicy;
use proptest::prelude::*;

const FILE: &str = r#"prometheus: monitoring/prometheus-operated:9090
steadyState:
  no-alert:
    prometheus: 'absent(ALERTS{alertstate="firing",namespace="$namespace"})'
  web-answers:
    http: {service: web, port: 8080, path: /healthz, status: 204, scheme: https}
    within: 1s
  plain: {http: {service: web, port: http}}
"#;

#[test]
fn each_form_of_a_check_is_read() {
    let checks = PlatformPolicy::parse(FILE).unwrap().steady_state;
    let service =
        ServiceAddress { namespace: "monitoring".to_owned(), service: "prometheus-operated:9090".to_owned() };
    let expression = "absent(ALERTS{alertstate=\"firing\",namespace=\"$namespace\"})".to_owned();
    let address = PrometheusAddress::Service(service);
    let alert = Check { probe: Probe::Prometheus { address, expression }, within: WITHIN };
    assert_eq!(checks.get("no-alert"), Some(&alert));
    let http = |service: &str, path: &str, status| Probe::Http {
        service: service.to_owned(),
        path: path.to_owned(),
        status,
    };
    let web = Check { probe: http("https:web:8080", "/healthz", 204), within: Duration::from_secs(1) };
    assert_eq!(checks.get("web-answers"), Some(&web));
    let plain = Check { probe: http("web:http", "/", 200), within: WITHIN };
    assert_eq!(checks.get("plain"), Some(&plain));
}

#[test]
fn the_namespace_is_filled_in() {
    assert_eq!(Probe::expression("up{namespace=\"$namespace\"}", "shop"), "up{namespace=\"shop\"}");
}

#[test]
fn what_is_wrong_in_the_file_is_said_with_its_line() {
    let at = "prometheus: monitoring/prometheus:9090\nsteadyState:\n";
    for (file, expected) in [
        (
            "steadyState:\n  a: {prometheus: up}\n".to_owned(),
            "line 2: steadyState.a.prometheus: the file does not say where Prometheus is; write `prometheus: monitoring/prometheus-operated:9090`",
        ),
        (
            "prometheus: prometheus:9090\n".to_owned(),
            "line 1: prometheus: Invalid value: \"prometheus:9090\": expected namespace, Service and port, such as `monitoring/prometheus-operated:9090`",
        ),
        (format!("{at}  a: {{prometheus: 'sum('}}\n"), "line 3: steadyState.a.prometheus: not PromQL: "),
        (
            format!("{at}  a:\n    prometheus: 'up[5m]'\n"),
            "line 4: steadyState.a.prometheus: expected an expression that gives a vector or a scalar, not a matrix",
        ),
        (format!("{at}  a: {{}}\n"), "line 3: steadyState.a: expected either `prometheus` or `http`"),
        (
            format!("{at}  a: {{prometheus: up, within: 11s}}\n"),
            "line 3: steadyState.a.within: expected a duration of at most 10s, such as `2s`",
        ),
        (
            format!("{at}  a: {{http: {{service: web, port: http, path: /../secrets}}}}\n"),
            "line 3: steadyState.a.http.path: expected an absolute path, such as `/healthz`",
        ),
        (
            format!("{at}  a: {{http: {{service: 'web/x', port: http}}}}\n"),
            "line 3: steadyState.a.http.service: expected the name of a Service, such as `web`",
        ),
        (
            format!("{at}  A_b: {{prometheus: up}}\n"),
            "line 3: steadyState.A_b: a check's name has lower-case letters, digits and `-`, such as `checkout-slo`",
        ),
        (
            format!("{at}  a: {{prometheus: up}}\ndefaults:\n  steady-state: b\n"),
            "defaults.steady-state: the platform's policy defines no check `b`; it defines `a`",
        ),
    ] {
        let error = PlatformPolicy::parse(&file).unwrap_err().to_string();
        let expected = format!("failed to understand the policy file: {expected}");
        assert!(error.starts_with(&expected), "{file}\n{error}");
    }
}

#[test]
fn a_namespace_chooses_only_what_is_defined() {
    let policy = PlatformPolicy::parse(FILE).unwrap();
    let settings = |value: &str| {
        policy.settings(&BTreeMap::from([("purechaos.dev/steady-state".to_owned(), value.to_owned())]))
    };
    let chosen = settings("plain, no-alert,plain").unwrap().steady_state.unwrap();
    assert_eq!(chosen.to_string(), "plain,no-alert");
    let problems = settings("no-alerts,plain").unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "metadata.annotations[purechaos.dev/steady-state]: Invalid value: \"no-alerts,plain\": the platform's policy defines no check `no-alerts`; it defines `no-alert`, `plain`, `web-answers`"
    );
    for wrong in ["", ",", "Plain", "http://x", "a/b", "a,,b"] {
        assert!(CheckNames::parse(wrong).is_none(), "{wrong:?}");
    }
    assert!(CheckNames::parse(&(0..=MOST).map(|n| n.to_string()).collect::<Vec<_>>().join(",")).is_none());
}

#[test]
fn an_address_has_a_namespace_a_service_and_a_port() {
    let of = |text| ServiceAddress::parse(text).map(|address| (address.namespace, address.service));
    for (text, service) in [
        ("monitoring/prometheus:9090", Some("prometheus:9090")),
        ("monitoring/http:prometheus:web", Some("http:prometheus:web")),
        ("monitoring/https:prometheus:9090", Some("https:prometheus:9090")),
        ("monitoring/ftp:prometheus:9090", None),
        ("monitoring/prometheus", None),
        ("monitoring/prometheus:9090/api", None),
        ("https://prometheus.example.com", None),
        ("prometheus:9090", None),
    ] {
        let expected = service.map(|service| ("monitoring".to_owned(), service.to_owned()));
        assert_eq!(of(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,40}") {
        drop(understood(&text));
        if let Some(names) = CheckNames::parse(&text) {
            prop_assert_eq!(CheckNames::parse(&names.to_string()), Some(names));
        }
        if let Some(ServiceAddress { namespace, service }) = ServiceAddress::parse(&text) {
            prop_assert_eq!(format!("{}/{}", namespace, service), text);
        }
    }
}

use super::*;
use policy::prometheus_address::PrometheusAddress;
use policy::steady_state::ServiceAddress;
use runtime::clock::{Clock, SystemClock};
use serde_json::json;

fn prometheus() -> Probe {
    let service =
        ServiceAddress { namespace: "monitoring".to_owned(), service: "prometheus:9090".to_owned() };
    let address = PrometheusAddress::Service(service);
    Probe::Prometheus { address, expression: "up".to_owned() }
}

fn http() -> Probe {
    Probe::Http { service: "web:http".to_owned(), path: "/".to_owned(), status: 200 }
}

fn told(probe: &Probe, status: u16, body: &str) -> Answer {
    judge(probe, status, body.as_bytes())
}

fn vector(values: &[&str]) -> String {
    let sample = |value: &&str| json!({"metric": {"job": "web"}, "value": [1_764_000_000.5, value]});
    let samples: Vec<Value> = values.iter().map(sample).collect();
    json!({"status": "success", "data": {"resultType": "vector", "result": samples}}).to_string()
}

fn own_status(code: u16, message: &str) -> String {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})
        .to_string()
}

#[test]
fn an_expression_holds_if_its_result_is_not_empty_and_true() {
    let broken = |text: &str| Answer::Broken(format!("the result of its expression is {text}"));
    for (values, expected) in [
        (&[] as &[&str], broken("empty")),
        (&["1"], Answer::Holds),
        (&["0.004", "+Inf"], Answer::Holds),
        (&["1", "0"], broken("0")),
        (&["NaN"], broken("NaN")),
        (&["many"], broken("many")),
    ] {
        assert_eq!(told(&prometheus(), 200, &vector(values)), expected, "{values:?}");
    }
    let scalar = |value: &str| json!({"data": {"resultType": "scalar", "result": [1, value]}}).to_string();
    assert_eq!(told(&prometheus(), 200, &scalar("1")), Answer::Holds);
    assert_eq!(told(&prometheus(), 200, &scalar("0")), broken("0"));
}

#[test]
fn what_prometheus_does_not_say_is_unknown() {
    for (status, body, why) in [
        (200, "", "the answer with status 200 is not one of Prometheus"),
        (502, "<html>", "the answer with status 502 is not one of Prometheus"),
        (200, "{}", "Prometheus answered with neither a vector nor a scalar"),
        (
            200,
            r#"{"data": {"resultType": "matrix", "result": []}}"#,
            "Prometheus answered with neither a vector nor a scalar",
        ),
        (
            422,
            r#"{"status": "error", "errorType": "execution", "error": "query timed out"}"#,
            "Prometheus reports: query timed out",
        ),
    ] {
        assert_eq!(told(&prometheus(), status, body), Answer::Unknown(why.to_owned()), "{body}");
    }
    let none = "no endpoints available for service \"prometheus\"";
    assert_eq!(told(&prometheus(), 503, &own_status(503, none)), Answer::Unknown(none.to_owned()));
}

#[test]
fn a_service_holds_if_it_answers_with_the_status() {
    let broken = |text: &str| Answer::Broken(text.to_owned());
    assert_eq!(told(&http(), 200, "anything"), Answer::Holds);
    assert_eq!(told(&http(), 500, ""), broken("the Service answered with status 500 instead of 200"));
    let none = "no endpoints available for service \"web\"";
    assert_eq!(told(&http(), 503, &own_status(503, none)), broken(none));
    let gone = "services \"web\" not found";
    assert_eq!(told(&http(), 404, &own_status(404, gone)), broken(gone));
    let busy = "Timeout: request did not complete";
    assert_eq!(told(&http(), 504, &own_status(504, busy)), Answer::Unknown(busy.to_owned()));
    let forbidden = "services \"web:http\" is forbidden";
    assert_eq!(told(&http(), 403, &own_status(403, forbidden)), Answer::Forbidden(forbidden.to_owned()));
}

/// A Service can write what looks like an error of the API server.
#[test]
fn a_service_that_speaks_like_the_api_server_is_not_believed() {
    let broken =
        |status: u16| Answer::Broken(format!("the Service answered with status {status} instead of 200"));
    assert_eq!(told(&http(), 200, &own_status(200, "fine")), Answer::Holds);
    assert_eq!(told(&http(), 200, &own_status(503, "none")), Answer::Holds, "the codes differ");
    assert_eq!(told(&http(), 500, &own_status(500, "inner")), broken(500));
    assert_eq!(told(&http(), 500, &own_status(403, "no")), broken(500), "the codes differ");
    let odd = "no endpoints\u{1b}[31m\nfor you";
    let plain = "no endpoints [31m for you".to_owned();
    assert_eq!(told(&http(), 503, &own_status(503, odd)), Answer::Broken(plain));
    let not_found = Probe::Http { service: "web:http".to_owned(), path: "/".to_owned(), status: 404 };
    assert_eq!(told(&not_found, 404, "<html>"), Answer::Holds);
    assert_eq!(told(&not_found, 404, &own_status(404, "gone")), Answer::Broken("gone".to_owned()));
}

#[test]
fn all_checks_have_to_hold() {
    let finding = |check: &str, answer: Answer| Finding {
        check: check.to_owned(),
        answer,
        asked: SystemClock.monotonic(),
    };
    let why = |text: &str| text.to_owned();
    let asked =
        |findings: &[Finding]| permits(findings).map_err(|forbidden| (forbidden.refusal, forbidden.sentence));
    let holds = finding("a", Answer::Holds);
    assert_eq!(asked(std::slice::from_ref(&holds)), Ok(()));
    let unknown = finding("b", Answer::Unknown(why("no answer within 2 s")));
    assert_eq!(
        asked(&[holds.clone(), unknown.clone()]),
        Err((Refusal::SteadyStateUnknown, why("check `b` has no answer: no answer within 2 s")))
    );
    let broken = finding("c", Answer::Broken(why("empty")));
    let forbidden = finding("d", Answer::Forbidden(why("may not")));
    assert_eq!(
        asked(&[unknown.clone(), broken, holds]),
        Err((Refusal::NotSteady, why("check `c` does not hold: empty")))
    );
    assert_eq!(
        asked(&[unknown, forbidden]),
        Err((
            Refusal::SteadyStateUnknown,
            why("check `b` has no answer: no answer within 2 s; check `d` has no answer: may not")
        ))
    );
}

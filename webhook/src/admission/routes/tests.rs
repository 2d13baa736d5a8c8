use super::*;
use crate::fake::{Fake, POWERLESS, path, replica_of, virtual_time};
use crate::run::Parts;
use axum::body::{Body, to_bytes};
use axum::http::Method;
use fake_api::{Answer, FAULT};
use jiff::Timestamp;
use prometheus::{Registry, TextEncoder};
use runtime::clock::TokioClock;
use serde_json::{Value, json};
use tower::ServiceExt;

struct App {
    clock: Arc<dyn Clock>,
    fake: Fake,
    parts: Parts,
    registry: Registry,
}

fn app_with(clock: impl Clock) -> App {
    app_of(clock, PlatformPolicy::built_in())
}

fn app_of(clock: impl Clock, policy: PlatformPolicy) -> App {
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let fake = Fake::new();
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let parts = Parts::new(&fake.client(), policy, &metrics, Arc::clone(&clock), replica_of(1));
    parts.pending_admissions.only(&std::collections::BTreeSet::new());
    parts.guard.configuration(Some(&serde_json::from_value(crate::fake::configuration()).unwrap()));
    App { clock, fake, parts, registry }
}

fn app() -> App {
    app_with(TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap()))
}

impl App {
    fn path(&self, route: &str) -> String {
        path(route, &*self.clock)
    }

    async fn send(&self, route: &str, kind: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let path = self.path(route);
        let request = HttpRequest::post(path).header("content-type", kind).body(Body::from(body)).unwrap();
        let response = router(Arc::clone(&self.parts.reviews)).oneshot(request).await.unwrap();
        let status = response.status();
        (status, to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    async fn review(&self, route: &str, request: Value) -> Value {
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (status, body) = self.send(route, "application/json", review.to_string().into_bytes()).await;
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    fn metric(&self, line: &str) -> bool {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap().contains(line)
    }

    fn remembers(&self) -> bool {
        self.parts.pending_admissions.is_waiting(self.parts.records.clock.monotonic())
    }
}

fn opt_in(annotations: Value, dry_run: bool) -> Value {
    json!({"uid": "u", "operation": "UPDATE", "resource": {"group": "", "version": "v1", "resource": "namespaces"},
        "name": "a", "namespace": "a", "userInfo": {"username": "kim"}, "dryRun": dry_run,
        "object": {"metadata": {"name": "a", "uid": "1", "annotations": annotations}}, "oldObject": {"metadata": {"name": "a"}}})
}

fn kill(namespace: &str) -> Value {
    json!({"uid": "k", "operation": "CREATE", "resource": {"group": "", "version": "v1", "resource": "pods"}, "subResource": "eviction",
        "namespace": namespace, "name": "web-1", "object": {"metadata": {"name": "web-1"}}, "oldObject": null,
        "userInfo": {"username": "system:serviceaccount:pure-chaos:agent", "groups": ["system:serviceaccounts:pure-chaos"]}})
}

#[test]
fn an_opt_in_is_answered_remembered_and_counted() {
    virtual_time(async {
        let app = app();
        let answer = app.review("opt-in", opt_in(json!({"chaos": "yes"}), true)).await;
        assert_eq!(answer["allowed"], true);
        assert!(!app.remembers(), "a dry run stores nothing");
        let answer = app.review("opt-in", opt_in(json!({"chaos": "Yes"}), false)).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(422)));
        assert!(!app.remembers());
        let answer = app.review("opt-in", opt_in(json!({"chaos": "yes"}), false)).await;
        assert!(answer["auditAnnotations"]["admitted"].as_str().unwrap().starts_with("user=kim digest="));
        assert!(app.remembers());
        assert!(app.metric("pure_chaos_admissions_total{decision=\"allow\",rule=\"opt-in\"} 2"));
        assert!(app.metric("pure_chaos_admissions_total{decision=\"deny\",rule=\"opt-in\"} 1"));
    });
}

#[test]
fn a_kill_is_judged_by_the_live_namespaces() {
    virtual_time(async {
        let app = app();
        app.fake.namespace("a", json!({}));
        let answer = app.review("kill", kill("a")).await;
        assert_eq!(answer["status"]["code"], 403);
        assert!(
            answer["status"]["message"].as_str().unwrap().contains("kubectl annotate namespace a chaos=yes")
        );
        app.fake.namespace("a", json!({"chaos": "yes"}));
        assert_eq!(app.review("kill", kill("a")).await["allowed"], true);
        app.fake.namespace("pure-chaos", json!({"purechaos.dev/halt": "4711"}));
        let answer = app.review("kill", kill("a")).await;
        assert!(answer["status"]["message"].as_str().unwrap().contains("halted (4711)"));
        let mut human = kill("kube-system");
        human["userInfo"] = json!({"username": "kim", "groups": ["system:authenticated"]});
        assert_eq!(app.review("kill", human).await["allowed"], true);
        assert!(app.metric("pure_chaos_admissions_total{decision=\"deny\",rule=\"kill\"} 2"));
    });
}

#[test]
fn what_cannot_be_read_is_not_killed_and_answered_in_time() {
    virtual_time(async {
        let app = app();
        app.fake.namespace("a", json!({"chaos": "yes"}));
        let message = |answer: Value| {
            assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
            answer["status"]["message"].as_str().unwrap().to_owned()
        };
        assert!(message(app.review("kill", kill("gone")).await).contains("the namespace does not exist"));
        app.fake.fail("GET", "/namespaces/a", usize::MAX, Answer::Status(500, Value::Null));
        assert!(message(app.review("kill", kill("a")).await).contains(FAULT));
        app.fake.heal();
        app.fake.fail("GET", "/namespaces/pure-chaos", usize::MAX, Answer::Status(500, Value::Null));
        assert!(message(app.review("kill", kill("a")).await).contains("pure-chaos can't be read"));
        // The API server does not answer the webhook. The webhook answers well before the API
        // server gives up.
        let clock = Arc::clone(&app.parts.records.clock);
        for silent in ["/namespaces/a", "/namespaces/pure-chaos"] {
            app.fake.heal();
            app.fake.fail("GET", silent, usize::MAX, Answer::After(Duration::MAX));
            let start = clock.monotonic();
            assert!(message(app.review("kill", kill("a")).await).contains("can't be read"));
            assert_eq!(clock.monotonic() - start, namespaces::LOCK_TIMEOUT);
        }
        assert!(app.metric("pure_chaos_admissions_total{decision=\"error\",rule=\"kill\"} 5"));
    });
}

#[test]
fn what_is_malformed_gets_a_clear_answer() {
    virtual_time(async {
        let app = app();
        let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
        for (kind, body, status, words) in [
            ("text/plain", "{}", 415, "expected Content-Type: application/json"),
            ("application/json", "yes", 400, "failed to read the review"),
            ("application/json; charset=utf-8", "{}", 400, "with a request"),
        ] {
            let (got, answer) = app.send("opt-in", kind, body.into()).await;
            assert_eq!(got.as_u16(), status);
            assert!(text(answer).contains(words));
        }
        let (status, answer) = app
            .send(
                "opt-in",
                "application/json",
                json!({"apiVersion": "v2", "kind": "AdmissionReview", "request": opt_in(json!({}), false)})
                    .to_string()
                    .into(),
            )
            .await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (status, &answer["response"]["uid"], &answer["response"]["status"]["code"]),
            (StatusCode::OK, &json!("u"), &json!(400))
        );
        let get =
            HttpRequest::builder().method(Method::GET).uri(app.path("kill")).body(Body::empty()).unwrap();
        let response = router(Arc::clone(&app.parts.reviews)).oneshot(get).await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(app.metric("pure_chaos_admissions_total{decision=\"error\",rule=\"opt-in\"} 4"));
    });
}

#[test]
fn bodies_up_to_the_limit_are_read() {
    virtual_time(async {
        let app = app();
        let sized = |size: usize| {
            let review = |padding: usize| {
                let annotations = json!({"chaos": "yes", "padding": "x".repeat(padding)});
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": opt_in(annotations, false)}).to_string()
            };
            review(size - review(0).len()).into_bytes()
        };
        assert_eq!(app.send("opt-in", "application/json", sized(body::LARGEST)).await.0, StatusCode::OK);
        let (status, body) = app.send("opt-in", "application/json", sized(body::LARGEST + 1)).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{}", String::from_utf8_lossy(&body));
    });
}

#[test]
fn a_body_that_never_ends_is_given_up_in_time() {
    virtual_time(async {
        let app = app();
        let endless = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let request = HttpRequest::post(app.path("opt-in"))
            .header("content-type", "application/json")
            .body(endless)
            .unwrap();
        let response = router(Arc::clone(&app.parts.reviews)).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    });
}

struct BrokenClock(TokioClock, std::sync::atomic::AtomicUsize);

impl Clock for BrokenClock {
    fn wall(&self) -> Timestamp {
        // The test asks the clock once for the path, and the webhook asks once to authenticate the
        // caller.
        assert!(self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2, "a defect");
        self.0.wall()
    }
    fn monotonic(&self) -> tokio::time::Instant {
        self.0.monotonic()
    }
}

#[test]
fn a_panic_fails_closed() {
    virtual_time(async {
        let app = app_with(BrokenClock(TokioClock::starting_at(Timestamp::UNIX_EPOCH), 0.into()));
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": opt_in(json!({"chaos": "yes"}), false)});
        let (status, _) = app.send("opt-in", "application/json", review.to_string().into()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(app.metric("pure_chaos_admissions_total{decision=\"error\",rule=\"opt-in\"} 1"));
    });
}

fn by(user: &str, mut request: Value) -> Value {
    request["userInfo"]["username"] = json!(user);
    request
}

#[test]
fn who_may_not_delete_pods_may_not_opt_in() {
    virtual_time(async {
        let app = app();
        let answer = app.review("opt-in", by(POWERLESS, opt_in(json!({"chaos": "yes"}), false))).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("user powerless may not opt in namespace a: this needs the right to delete"),
            "{message}"
        );
        assert!(!app.remembers());
        let mut created = by(POWERLESS, opt_in(json!({"chaos": "yes"}), false));
        created["operation"] = json!("CREATE");
        created["oldObject"] = Value::Null;
        let answer = app.review("opt-in", created).await;
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.contains("create the namespace first, then annotate it"), "{message}");
        // Such a user also can't set what a later opt-in would obey, and can't avoid the check with
        // an end in the past.
        for (annotations, key) in [
            (json!({"purechaos.dev/limit": "1"}), "purechaos.dev/limit"),
            (json!({"chaos": "yes", "purechaos.dev/expires": "2020-01-01T00:00:00Z"}), "chaos"),
        ] {
            let answer = app.review("opt-in", by(POWERLESS, opt_in(annotations, false))).await;
            assert_eq!(answer["status"]["code"], 403);
            let message = answer["status"]["message"].as_str().unwrap();
            assert!(
                message.starts_with(&format!("metadata.annotations[{key}]: Forbidden: user powerless")),
                "{message}"
            );
        }
        // A change that consents to nothing needs no right.
        assert_eq!(app.review("opt-in", by(POWERLESS, opt_in(json!({}), false))).await["allowed"], true);
    });
}

#[test]
fn a_right_that_cant_be_asked_for_is_none() {
    virtual_time(async {
        let app = app();
        for answer in [Answer::Status(500, Value::Null), Answer::After(Duration::MAX)] {
            app.fake.heal();
            app.fake.fail("POST", "/subjectaccessreviews", usize::MAX, answer);
            let answer = app.review("opt-in", opt_in(json!({"chaos": "yes"}), false)).await;
            assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
            let message = answer["status"]["message"].as_str().unwrap();
            assert!(
                message.contains("failed to check whether user kim may delete Pods in namespace a"),
                "{message}"
            );
        }
        assert!(app.metric("pure_chaos_admissions_total{decision=\"error\",rule=\"opt-in\"} 2"));
        assert!(!app.remembers());
    });
}

#[test]
fn the_platform_can_turn_the_check_off() {
    virtual_time(async {
        let app = app_of(
            TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap()),
            PlatformPolicy { require_pod_delete: false, ..PlatformPolicy::built_in() },
        );
        app.fake.before("POST", "/subjectaccessreviews", |_| panic!("nobody asks"));
        let answer = app.review("opt-in", by(POWERLESS, opt_in(json!({"chaos": "yes"}), false))).await;
        assert_eq!(answer["allowed"], true);
    });
}

/// Any client that reaches the port can do this. The webhook does not read the request, remember
/// it, log it as a decision, or count it as one.
#[test]
fn who_does_not_know_the_path_is_turned_away_unread() {
    virtual_time(async {
        let app = app();
        app.fake.intercept(|call| panic!("{} was asked for a stranger", call.path));
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": by("someone@example.com", opt_in(json!({"chaos": "yes"}), false))});
        let foreign = certs::path::segment::Keys::of([8; 32], [9; 32]).path("opt-in", app.clock.wall());
        let other_rule = app.path("kill").replace("/kill/", "/opt-in/");
        for path in ["/", "/opt-in", "/opt-in/", "/kill", &foreign, &other_rule] {
            // The webhook does not wait for a body that never ends.
            let endless = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
            for body in [Body::from(review.to_string()), endless] {
                let request =
                    HttpRequest::post(path).header("content-type", "application/json").body(body).unwrap();
                let response = router(Arc::clone(&app.parts.reviews)).oneshot(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
                assert_eq!(response.headers()["connection"], "close");
            }
        }
        assert!(!app.remembers());
        assert!(app.metric("\npure_chaos_unauthenticated_requests_total 12"));
        for rule in Rule::ALL {
            for outcome in Outcome::ALL {
                let labels = format!("decision=\"{}\",rule=\"{}\"", outcome.label(), rule.label());
                assert!(app.metric(&format!("pure_chaos_admissions_total{{{labels}}} 0")));
            }
        }
    });
}

#[test]
fn a_path_that_is_too_old_opens_nothing() {
    virtual_time(async {
        let app = app();
        let old = app.path("opt-in");
        tokio::time::sleep(crate::admission::callers::LONGEST + Duration::from_secs(1)).await;
        let request = HttpRequest::post(old).body(Body::empty()).unwrap();
        let response = router(Arc::clone(&app.parts.reviews)).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(app.review("opt-in", opt_in(json!({"chaos": "yes"}), false)).await["allowed"], true);
    });
}

/// An admission that could not count is denied with advice, instead of ending as a record that says
/// so.
#[test]
fn an_opt_in_that_could_not_count_is_refused() {
    virtual_time(async {
        let app = app();
        let ask = async |dry_run| app.review("opt-in", opt_in(json!({"chaos": "yes"}), dry_run)).await;
        let configuration = |object: Value| {
            app.parts.guard.configuration(Some(&serde_json::from_value(object).unwrap()));
        };
        let mut narrowed = crate::fake::configuration();
        narrowed["webhooks"][0]["failurePolicy"] = json!("Ignore");
        configuration(narrowed);
        for _ in 0..2 {
            let answer = ask(false).await;
            assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
            let message = answer["status"]["message"].as_str().unwrap();
            assert!(message.contains("the webhook configuration has just changed"), "{message}");
            assert_eq!(ask(true).await["allowed"], true, "a dry run stores nothing");
            // The configuration is back, but API servers may not obey it yet.
            configuration(crate::fake::configuration());
        }
        assert!(!app.remembers());
        tokio::time::sleep(crate::admission::configuration_watch::SETTLE).await;
        assert_eq!(ask(false).await["allowed"], true);
        assert!(app.metric("pure_chaos_admissions_total{decision=\"error\",rule=\"opt-in\"} 2"));
    });
}

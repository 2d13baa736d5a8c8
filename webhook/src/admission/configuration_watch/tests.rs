use super::*;
use crate::fake::configuration;
use runtime::clock::TokioClock;
use serde_json::{Value, json};

fn guard() -> ConfigurationWatch {
    ConfigurationWatch::new(Arc::new(TokioClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap())))
}

fn show(guard: &ConfigurationWatch, edit: impl FnOnce(&mut Value)) {
    let mut object = configuration();
    edit(&mut object);
    guard.configuration(Some(&serde_json::from_value(object).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn what_is_found_holds_and_what_comes_back_holds_a_moment_later() {
    let guard = guard();
    assert!(!guard.holds(), "not seen yet");
    show(&guard, |_| ());
    assert!(guard.holds());
    show(&guard, |object| {
        object["webhooks"][0]["clientConfig"]["caBundle"] = json!("YQ==");
        object["webhooks"][0]["clientConfig"]["service"]["path"] = json!("/opt-in/new");
        object["webhooks"][1]["timeoutSeconds"] = json!(1);
        object["metadata"]["labels"] = json!({"a": "b"});
    });
    assert!(guard.holds(), "certs' own changes, and the other rule");
    for change in [
        (|object: &mut Value| object["webhooks"][0]["timeoutSeconds"] = json!(1)) as fn(&mut Value),
        |object| object["webhooks"][0]["matchConditions"] = json!([{"name": "a", "expression": "false"}]),
    ] {
        show(&guard, change);
        assert!(!guard.holds(), "an API server may not obey it yet");
        tokio::time::sleep(SETTLE).await;
        assert!(guard.holds());
    }
    guard.configuration(None);
    tokio::time::sleep(SETTLE * 100).await;
    assert!(!guard.holds(), "away");
    show(&guard, |_| ());
    tokio::time::sleep(SETTLE - Duration::from_millis(1)).await;
    assert!(!guard.holds(), "just back");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(guard.holds());
}

#[tokio::test(start_paused = true)]
async fn what_lets_something_through_never_holds() {
    type Edit = fn(&mut Value);
    let narrowed: [(&str, Edit); 10] = [
        ("no webhook", |object| object["webhooks"] = json!([])),
        ("another name", |object| object["webhooks"][0]["name"] = json!("opt-out.purechaos.dev")),
        ("failurePolicy", |object| object["webhooks"][0]["failurePolicy"] = json!("Ignore")),
        ("namespaceSelector", |object| {
            object["webhooks"][0]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}});
        }),
        ("objectSelector", |object| {
            let absent = json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]});
            object["webhooks"][0]["objectSelector"] = absent;
        }),
        ("another service", |object| {
            object["webhooks"][0]["clientConfig"]["service"]["namespace"] = json!("tenant");
        }),
        ("an address", |object| {
            object["webhooks"][0]["clientConfig"] = json!({"url": "https://example.com"})
        }),
        ("no CREATE", |object| object["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"])),
        ("no status", |object| {
            object["webhooks"][0]["rules"][0]["resources"] = json!(["namespaces", "namespaces/finalize"]);
        }),
        ("scope", |object| object["webhooks"][0]["rules"][0]["scope"] = json!("Namespaced")),
    ];
    for (what, edit) in narrowed {
        let guard = guard();
        show(&guard, edit);
        tokio::time::sleep(SETTLE * 2).await;
        assert!(!guard.holds(), "{what}");
    }
}

/// The configuration holds with the values that the API server fills in, and with wildcards.
#[tokio::test(start_paused = true)]
async fn empty_selectors_and_wildcards_hold() {
    let guard = guard();
    show(&guard, |object| {
        object["webhooks"][0]["namespaceSelector"] = json!({});
        object["webhooks"][0]["objectSelector"] = json!({"matchLabels": {}});
        object["webhooks"][0]["rules"][0]["operations"] = json!(["*"]);
        object["webhooks"][0]["rules"][0]["resources"] = json!(["*/*"]);
    });
    assert!(guard.holds());
}

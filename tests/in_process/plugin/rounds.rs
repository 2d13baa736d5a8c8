//! `kubectl chaos now`: it asks for a round, and tells how the round ended.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tests::fake_api::{Answer, Api};

use super::stage::{
    RECORD, agent_does, annotations, api, change, opted_in, put_record, refused, show_policy, type_in,
};

#[tokio::test(start_paused = true)]
async fn a_round_at_once_is_an_annotation_and_its_outcome_is_told() {
    let api = opted_in();
    agent_does(&api, |slot| json!({"kills": 2, "lastSlot": slot}));
    let printed = type_in(&api, &["now", "a"]).await.unwrap();
    let call = change(&api);
    let asked = annotations(&call.body)["purechaos.dev/also-at"].as_str().unwrap();
    let ahead = asked.parse::<Timestamp>().unwrap().duration_since(Timestamp::now()).as_secs();
    assert!((8..=11).contains(&ahead), "{asked}");
    let command = format!("kubectl annotate --overwrite namespace a purechaos.dev/also-at={asked}");
    assert_eq!(printed, format!("{command}\nnamespace/a annotated\n1 Pod was killed\n"));
}

#[tokio::test(start_paused = true)]
async fn a_round_that_was_not_seen_to_end_is_no_success() {
    let withdraw = "kubectl --context staging annotate namespace a purechaos.dev/also-at-";
    let now = &["now", "a", "--context", "staging", "--timeout", "1m"];
    // No agent serves the slot.
    let error = type_in(&opted_in(), now).await.unwrap_err().to_string();
    assert!(error.starts_with("no round was made at ") && error.ends_with(withdraw), "{error}");
    assert!(error.contains("(kubectl chaos --context staging explain a says why)"), "{error}");

    // The agent served the slot, but the result isn't known.
    let api = opted_in();
    agent_does(&api, |slot| json!({"kills": 1, "lastSlot": slot, "nextSlot": slot}));
    let error = type_in(&api, now).await.unwrap_err().to_string();
    assert!(error.contains(" began, but did not end within 60 s"), "{error}");
    assert!(error.contains("kubectl chaos --context staging status -n a"), "{error}");

    // The agent served a later slot.
    let api = opted_in();
    agent_does(&api, |_| json!({"kills": 2, "lastSlot": "9999-01-01T00:00:00Z"}));
    let error = type_in(&api, now).await.unwrap_err().to_string();
    let instead = "the agent made the round of 9999-01-01T00:00:00Z instead, and 1 Pod was killed";
    assert!(error.contains(" was skipped: "), "{error}");
    assert!(error.ends_with(instead), "{error}");

    // The record is gone, because the namespace opted out meanwhile.
    let api = opted_in();
    api.before("PATCH", "/namespaces/a", |api| api.remove(RECORD));
    let error = type_in(&api, now).await.unwrap_err().to_string();
    assert!(error.starts_with("failed to read the result of the round of "), "{error}");
    assert!(error.contains(withdraw), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_api_server_is_waited_for() {
    let api = opted_in();
    agent_does(&api, |slot| json!({"kills": 2, "lastSlot": slot}));
    // This hook runs after the first look.
    api.before("GET", RECORD, |api| {
        for code in [429, 500, 503] {
            api.fail("GET", RECORD, 2, Answer::Status(code, Value::Null));
        }
    });
    let printed = type_in(&api, &["now", "a"]).await.unwrap();
    assert!(printed.ends_with("1 Pod was killed\n"), "{printed}");
}

#[tokio::test]
async fn a_round_at_once_has_nothing_else_admitted_and_replaces_nothing() {
    let api = api(json!({"chaos": "yes"}));
    let now = &["now", "a", "--context", "staging"];
    put_record(&api, json!({"verdict": "NotAdmitted", "reason": "set while nobody saw it: remove `chaos`"}));
    assert_eq!(
        refused(&api, now).await,
        "you can't ask for a round in namespace a: set while nobody saw it: remove `chaos`"
    );
    let settings = json!({
        "schedule": "every 10m", "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false, "alsoAt": "9999-12-01T14:00:00Z",
    });
    put_record(&api, json!({"verdict": "Admitted", "settings": settings}));
    let error = refused(&api, now).await;
    assert!(error.contains("a round is already planned for 9999-12-01T14:00:00Z"), "{error}");
    assert!(
        error.ends_with("kubectl --context staging annotate namespace a purechaos.dev/also-at-"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_record_it_says_why() {
    let line = &["now", "a", "--context", "staging"];
    let out = api(json!({}));
    assert_eq!(
        refused(&out, line).await,
        "namespace a has not opted in; to opt it in, run: kubectl chaos --context staging on a"
    );
    let expired = api(json!({"chaos": "yes", "purechaos.dev/expires": "2020-01-01T00:00:00Z"}));
    let error = refused(&expired, line).await;
    assert!(error.starts_with("the opt-in of namespace a expired at 2020-01-01T00:00:00Z"), "{error}");
    let nowhere = Api::default();
    assert_eq!(refused(&nowhere, line).await, "there is no namespace a");

    let lost = api(json!({"chaos": "yes"}));
    let begun = tokio::time::Instant::now();
    let error = refused(&lost, line).await;
    assert!(error.contains("kubectl --context staging -n pure-chaos get pods"), "{error}");
    assert!((4..7).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());

    // The annotation was set a moment ago, and the record comes.
    let young = api(json!({"chaos": "yes"}));
    young.before("GET", "/namespaces/a", |api| put_record(api, json!({"verdict": "Admitted"})));
    agent_does(&young, |slot| json!({"kills": 1, "lastSlot": slot, "state": "dry run"}));
    let printed = type_in(&young, &["now", "a"]).await.unwrap();
    assert!(printed.ends_with("nothing was killed, because this is a dry run\n"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_round_that_would_be_skipped_is_not_asked_for() {
    let ago = |seconds| Timestamp::now().checked_sub(Duration::from_secs(seconds)).unwrap().to_string();
    let recent = |schedule: &str, seconds| {
        let api = api(json!({"chaos": "yes"}));
        let settings =
            json!({"schedule": schedule, "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false});
        put_record(&api, json!({"verdict": "Admitted", "settings": settings}));
        let last = ago(seconds);
        api.change(RECORD, |record| record["status"]["lastSlot"] = json!(last));
        agent_does(&api, |slot| json!({"kills": 2, "lastSlot": slot}));
        api
    };
    let now = &["now", "a"];

    let platform = recent("every 10m", 20);
    show_policy(&platform, "ceilings: {schedule: every 2m}");
    let error = refused(&platform, now).await;
    let words = "you can't ask for a round in namespace a: the last round was at 2";
    assert!(
        error.starts_with(words) && error.contains("the platform's shortest interval is 2m. "),
        "{error}"
    );
    let (_, seconds) = error.rsplit_once(": ask again in 1 min ").unwrap();
    let seconds: u64 = seconds.trim_end_matches(" s").parse().unwrap();
    assert!((25..=31).contains(&seconds), "{error}");

    // The interval is as short as the platform allows.
    let platform = recent("every 10m", 20);
    show_policy(&platform, "ceilings: {schedule: every 20s}");
    assert!(type_in(&platform, now).await.unwrap().starts_with("kubectl annotate "));

    // If the user may not read the policy, the plugin says what may happen, and still asks for the
    // round.
    let printed = type_in(&recent("every 10m", 20), now).await.unwrap();
    let told = "You may not read the platform's shortest interval: if it is 1m, the agent skips this round, \
                and the earliest next round is at 2";
    let (first, rest) = printed.split_once('\n').unwrap();
    assert!(first.contains(told) && rest.starts_with("kubectl annotate "), "{printed}");

    // The schedule that the platform admitted here, or the time since the last round, is enough to
    // decide.
    for api in [recent("every 10s", 20), recent("every 10m", 900)] {
        let printed = type_in(&api, now).await.unwrap();
        assert!(printed.starts_with("kubectl annotate "), "{printed}");
        assert!(!api.calls().iter().any(|call| call.path.contains("/deployments/")));
    }
}

//! Changes from outside: edits by others, silent endpoints, wrong clocks, and revocations.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_bundle_that_somebody_else_wrote_is_put_right_at_the_next_tick() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    assert_eq!(bench.restored(), 0.0, "the first time there was nothing to put back");
    for (times, foreign) in
        [b"".to_vec(), b"garbage".to_vec(), ca(START, DAY).certificate().pem().into_bytes()]
            .iter()
            .enumerate()
    {
        bench.fake.overwrite_bundle(foreign);
        process.tick().await.unwrap();
        bench.assert_in_order();
        assert_eq!(Certificate::all(&bench.fake.bundles()[0]), [bench.ca()]);
        assert_eq!(bench.restored(), times as f64 + 1.0);
    }
    // The write is refused because the bundle changed once more. The bundle is still put back only
    // once.
    bench.fake.overwrite_bundle(b"foreign");
    let fake = bench.fake.clone();
    bench.fake.before("PATCH", "/pure-chaos", move |_| fake.overwrite_bundle(b"other"));
    process.tick().await.unwrap();
    assert_eq!(bench.restored(), 4.0);
    // The configuration is deleted and created again.
    bench.fake.delete_configuration();
    process.tick().await.unwrap_err();
    bench.fake.put_configuration(&WEBHOOKS);
    process.tick().await.unwrap();
    bench.assert_in_order();
    assert_eq!(bench.restored(), 5.0);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_changed_beside_the_bundle_is_told_once() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 4] = [
        ("failurePolicy", |object| object["webhooks"][1]["failurePolicy"] = "Ignore".into()),
        ("a selector", |object| {
            object["webhooks"][0]["namespaceSelector"] = serde_json::json!({"matchLabels": {"a": "b"}});
        }),
        ("one webhook less", |object| drop(object["webhooks"].as_array_mut().unwrap().pop())),
        ("a rule", |object| object["webhooks"][0]["rules"] = serde_json::json!([{"operations": ["CREATE"]}])),
    ];
    let bench = Bench::new();
    bench.fake.delete_configuration();
    let mut process = bench.process();
    process.tick().await.unwrap_err();
    bench.fake.put_configuration(&WEBHOOKS);
    process.tick().await.unwrap();
    bench.fake.edit_configuration(|object| object["metadata"]["labels"] = serde_json::json!({"a": "b"}));
    process.tick().await.unwrap();
    assert_eq!(bench.changes(), 0.0, "it came, and its own writing");
    for (times, (what, edit)) in edits.into_iter().enumerate() {
        bench.fake.edit_configuration(edit);
        process.tick().await.unwrap();
        process.tick().await.unwrap();
        assert_eq!(bench.changes(), times as f64 + 1.0, "{what}");
    }
    assert_eq!(bench.restored(), 0.0);
    bench.fake.overwrite_bundle(b"foreign");
    process.tick().await.unwrap();
    assert_eq!((bench.changes(), bench.restored()), (4.0, 1.0), "that is the other counter's");
    bench.fake.delete_configuration();
    process.tick().await.unwrap_err();
    process.tick().await.unwrap_err();
    assert_eq!(bench.changes(), 5.0, "deleted");
}

/// There are two processes, and the answer to one write is lost. What the processes write
/// themselves must not count as somebody else's change.
#[tokio::test(start_paused = true)]
async fn a_rotation_is_not_taken_for_another_hand() {
    let mut lost = 0;
    for write in 0..100 {
        let bench = Bench::new();
        bench.fake.crash_at(write, Crash::AfterWrite);
        let (mut one, mut other) = (bench.process(), bench.process());
        for step in [0, 1, 7 * DAY + 1, 1, 120, 1, DAY, 1] {
            pass(step).await;
            // A tick that lost an answer fails, and the next one goes on.
            drop(one.tick().await);
            drop(other.tick().await);
        }
        bench.assert_in_order();
        assert_eq!((bench.restored(), bench.changes()), (0.0, 0.0), "write {write}");
        if !bench.fake.has_crashed() {
            break;
        }
        lost += 1;
    }
    assert!(lost > 5, "{lost}");

    // The answer to an injection is lost, and at the next tick the bundle has to change again.
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    pass(7 * DAY + 1).await;
    bench.fake.crash_at(1, Crash::AfterWrite);
    process.tick().await.unwrap_err();
    assert_eq!(Certificate::all(&bench.fake.bundles()[0]).len(), 2);
    pass(2 * DAY).await;
    process.tick().await.unwrap();
    assert_eq!(bench.restored(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_an_object_ends_the_tick() {
    let bench = Bench::new();
    bench.process().tick().await.unwrap();
    bench.fake.overwrite_bundle(b"foreign");
    for _ in 0..MOST_ACTS {
        let fake = bench.fake.clone();
        bench.fake.before("PATCH", "/pure-chaos", move |_| fake.overwrite_bundle(b"foreign"));
    }
    let error = bench.process().tick().await.unwrap_err();
    assert!(matches!(error, TickError::Restless), "{error}");
}

/// An endpoint that does not answer delays a change of CA, but can't stop it.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_silent_delays_a_swap_and_no_more() {
    let bench = Bench::new();
    let mut process = bench.process();
    process.tick().await.unwrap();
    let old_leaf = bench.leaf();
    let endpoint = |leaf| Ok(vec![Endpoint { address: "10.0.0.1:8443".to_owned(), leaf }]);
    bench.fake.serve(endpoint(Err("failed to connect".to_owned())));
    bench.fake.delete_secret(CA_SECRET);
    process.tick().await.unwrap();
    pass(120).await;
    let left = process.tick().await.unwrap().unwrap();
    assert_eq!(
        left,
        Duration::from_secs(4 * DAY - DAY / 2 - 120),
        "at most until half of the lookahead is left"
    );
    assert_eq!(bench.leaf(), old_leaf);
    bench.fake.serve(endpoint(Ok(old_leaf.clone())));
    assert_eq!(process.tick().await.unwrap(), None);
    bench.assert_in_order();
    assert_ne!(bench.leaf(), old_leaf);

    // The certificate that is served now is renewed, while the endpoint stays silent.
    let second = bench.leaf();
    bench.fake.serve(endpoint(Err("failed to connect".to_owned())));
    for _ in 0..8 {
        pass(DAY / 4).await;
        process.tick().await.unwrap();
        assert_eq!(bench.leaf(), second);
    }
    while bench.clock.wall() < second.not_after() {
        pass(HOUR).await;
        process.tick().await.unwrap();
        assert!(bench.accepts(&bench.leaf()));
    }
    assert_ne!(bench.leaf(), second);
}

/// A clock is an hour off, in either direction, at any point of a rotation, and is also put right
/// again. A correct clock never refuses a certificate because of that.
#[tokio::test(start_paused = true)]
async fn an_hour_of_clock_skew_heals() {
    for skew in [-3_600, 3_600] {
        for skewed in 0..6 {
            let bench = Bench::new();
            let off = Arc::new(TokioClock::starting_at(at(START + skew)));
            for (step, passing) in [0, 84 * HOUR, 84 * HOUR + 1, 120, DAY, DAY].into_iter().enumerate() {
                pass(passing).await;
                let clock: Arc<dyn Clock> = if step == skewed { off.clone() } else { bench.clock.clone() };
                let mut process = bench.process_with(clock);
                if let Some(due) = process.tick().await.unwrap() {
                    assert!(bench.accepts(&bench.leaf()), "{skew} {skewed} {step}");
                    tokio::time::sleep(due).await;
                    process.tick().await.unwrap();
                }
                assert!(bench.accepts(&bench.leaf()), "{skew} {skewed} {step}");
            }
            bench.process().tick().await.unwrap();
            bench.assert_in_order();
        }
    }
}

/// A key has leaked. From the next tick on, no earlier CA is trusted any more, and nothing that was
/// written before brings one back.
#[tokio::test(start_paused = true)]
async fn a_revoked_ca_is_trusted_nowhere_from_the_next_tick_on() {
    for write in 0..6 {
        for crash in [Crash::BeforeWrite, Crash::AfterWrite] {
            let bench = Bench::new();
            let mut process = bench.process();
            process.tick().await.unwrap();
            // The revocation comes in the middle of a rotation, so that there is also a previous
            // CA.
            pass(7 * DAY + 1).await;
            process.tick().await.unwrap();
            let trusted = Certificate::all(&bench.fake.bundles()[0]);
            assert_eq!(trusted.len(), 2);
            let mut secret = bench.fake.secret(CA_SECRET).unwrap();
            secret["metadata"]["annotations"] =
                serde_json::json!({"purechaos.dev/revoke": "true", "team": "a"});
            bench.fake.put_secret(CA_SECRET, secret);
            bench.fake.crash_at(write, crash);
            while process.tick().await.is_err() {
                process = bench.process();
            }
            bench.assert_in_order();
            let now = Certificate::all(&bench.fake.bundles()[0]);
            assert_eq!(now, [bench.ca()], "write {write}");
            assert!(!trusted.contains(&now[0]) && bench.accepts(&bench.leaf()));
            assert_eq!(Certificate::all(&bench.fake.data(SERVING_SECRET).unwrap()["ca.crt"]), now);
            let annotations = bench.fake.secret(CA_SECRET).unwrap()["metadata"]["annotations"].clone();
            assert_eq!(annotations, serde_json::json!({"team": "a"}), "once");
            // Somebody restores the old bundle, and it is not trusted again.
            bench.fake.overwrite_bundle(crate::x509::bundle::pem(&trusted).as_bytes());
            while process.tick().await.is_err() {}
            assert_eq!(Certificate::all(&bench.fake.bundles()[0]), now);
        }
    }
}

/// `false`, or a reason instead of a yes, revokes nothing. The annotation stays where its owner
/// finds it.
#[tokio::test(start_paused = true)]
async fn what_is_no_clear_yes_revokes_nothing() {
    for value in ["false", "leaked", ""] {
        let bench = Bench::new();
        let mut process = bench.process();
        process.tick().await.unwrap();
        let (ca, leaf) = (bench.ca(), bench.leaf());
        let mut secret = bench.fake.secret(CA_SECRET).unwrap();
        secret["metadata"]["annotations"] = serde_json::json!({"purechaos.dev/revoke": value});
        bench.fake.put_secret(CA_SECRET, secret);
        process.tick().await.unwrap();
        assert_eq!((bench.ca(), bench.leaf()), (ca.clone(), leaf), "{value:?}");
        // The ordinary end of the CA revokes nothing either, and keeps its predecessor trusted.
        pass(7 * DAY + 1).await;
        process.tick().await.unwrap();
        assert_ne!(bench.ca(), ca);
        assert!(Certificate::all(&bench.fake.bundles()[0]).contains(&ca), "{value:?}");
        let annotations = bench.fake.secret(CA_SECRET).unwrap()["metadata"]["annotations"].clone();
        assert_eq!(annotations, serde_json::json!({"purechaos.dev/revoke": value}));
    }
}

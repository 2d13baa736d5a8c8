//! What becomes of RoleBindings and records that others made or edited.

use super::*;

#[test]
fn a_foreign_binding_stays_and_is_shown() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        let role = json!({"apiGroup": "x", "kind": "Role", "name": "other"});
        fake.put(&binding("a"), json!({"metadata": {"name": "pure-chaos-agent"}, "roleRef": role}));
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        assert_eq!(fake.verdict("a"), "Admitted");
        assert!(
            fake.record("a").unwrap()["spec"]["reason"]
                .as_str()
                .unwrap()
                .contains("delete rolebinding pure-chaos-agent")
        );
        assert_eq!(fake.binding("a").unwrap()["roleRef"]["name"], "other");
        fake.writes();
        tokio::time::sleep(REST * 2).await;
        assert_eq!(look(&one, "a").await, None);
        assert_eq!(fake.writes(), Vec::<String>::new(), "no loop");
        fake.remove(&binding("a"));
        look(&one, "a").await;
        assert!(fake.record("a").unwrap()["spec"].get("reason").is_none());
        assert_eq!(fake.binding("a").unwrap()["roleRef"]["name"], "pure-chaos-agent");
        // Opting out leaves a foreign RoleBinding as it is, too.
        fake.change(&binding("a"), |foreign| {
            foreign["metadata"]["ownerReferences"] = json!([]);
            foreign["roleRef"]["name"] = json!("other");
        });
        fake.namespace("a", json!({}));
        look(&one, "a").await;
        assert!(fake.binding("a").is_some() && fake.record("a").is_none());
    });
}

#[test]
fn a_binding_without_its_owner_goes_with_the_opt_in_all_the_same() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        let strip =
            || fake.change(&binding("a"), |binding| binding["metadata"]["ownerReferences"] = json!([]));
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        tokio::time::sleep(REST).await;
        strip();
        look(&one, "a").await;
        let record = fake.record("a").unwrap();
        assert!(record["spec"].get("reason").is_none(), "it is not called foreign");
        assert_eq!(
            fake.binding("a").unwrap()["metadata"]["ownerReferences"][0]["uid"],
            record["metadata"]["uid"]
        );
        strip();
        fake.namespace("a", json!({}));
        look(&one, "a").await;
        assert!(fake.binding("a").is_none() && fake.record("a").is_none());
    });
}

#[test]
fn what_hands_edit_is_put_right() {
    virtual_time(async {
        let (fake, one) = admitted();
        look(&one, "a").await;
        let good = fake.record("a").unwrap()["spec"].clone();
        let edits: [fn(&Fake); 6] = [
            |fake| fake.remove(&binding("a")),
            |fake| fake.remove(&record("a")),
            |fake| {
                let subjects = json!([{"kind": "User", "name": "eve"}]);
                fake.change(&binding("a"), |binding| binding["subjects"] = subjects);
            },
            |fake| {
                fake.change(&binding("a"), |binding| binding["roleRef"]["name"] = json!("cluster-admin"));
            },
            |fake| {
                fake.change(&record("a"), |record| {
                    record["spec"]["settings"]["limit"] = json!(50);
                    record["spec"]["admission"]["digest"] = json!("0");
                });
            },
            |fake| fake.change(&record("a"), |record| record["spec"] = json!({"nonsense": true})),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            tokio::time::sleep(REST).await;
            edit(&fake);
            assert_eq!(look(&one, "a").await, None, "{number}");
            assert_eq!(fake.record("a").unwrap()["spec"], good, "{number}");
            let binding = fake.binding("a").unwrap();
            assert_eq!(binding["subjects"][0]["name"], "agent", "{number}");
            assert_eq!(binding["roleRef"]["name"], "pure-chaos-agent", "{number}");
            assert_eq!(
                binding["metadata"]["ownerReferences"][0]["uid"],
                fake.record("a").unwrap()["metadata"]["uid"],
                "{number}"
            );
        }
        // Somebody who makes the same change again and again is answered only once in a while.
        edits[0](&fake);
        assert_eq!(look(&one, "a").await, Some(REST));
    });
}

//! What becomes of RoleBindings and records that others made or edited.

use super::*;

#[test]
fn a_foreign_binding_stays_and_is_shown() {
    virtual_time(async {
        let fake = Fake::new();
        let one = parts(&fake, 1);
        fake.with(|store| {
            store.put(
                "rolebindings",
                "a",
                "pure-chaos-agent",
                json!({"metadata": {}, "roleRef": {"apiGroup": "x", "kind": "Role", "name": "other"}}),
            )
        });
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
        fake.with(|store| store.remove("rolebindings", "a", "pure-chaos-agent"));
        look(&one, "a").await;
        assert!(fake.record("a").unwrap()["spec"].get("reason").is_none());
        assert_eq!(fake.binding("a").unwrap()["roleRef"]["name"], "pure-chaos-agent");
        // Opting out leaves a foreign RoleBinding as it is, too.
        fake.with(|store| {
            let mut foreign = store.get("rolebindings", "a", "pure-chaos-agent").unwrap();
            foreign["metadata"]["ownerReferences"] = json!([]);
            foreign["roleRef"]["name"] = json!("other");
            store.put("rolebindings", "a", "pure-chaos-agent", foreign);
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
        let strip = |store: &mut crate::fake::Store| {
            let mut binding = store.get("rolebindings", "a", "pure-chaos-agent").unwrap();
            binding["metadata"]["ownerReferences"] = json!([]);
            store.put("rolebindings", "a", "pure-chaos-agent", binding);
        };
        admit(&fake, &one, "a", yes());
        look(&one, "a").await;
        tokio::time::sleep(REST).await;
        fake.with(strip);
        look(&one, "a").await;
        let record = fake.record("a").unwrap();
        assert!(record["spec"].get("reason").is_none(), "it is not called foreign");
        assert_eq!(
            fake.binding("a").unwrap()["metadata"]["ownerReferences"][0]["uid"],
            record["metadata"]["uid"]
        );
        fake.with(strip);
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
        let edits: [fn(&mut crate::fake::Store); 6] = [
            |store| drop(store.remove("rolebindings", "a", "pure-chaos-agent")),
            |store| drop(store.remove("optins", "a", "chaos")),
            |store| {
                let mut binding = store.get("rolebindings", "a", "pure-chaos-agent").unwrap();
                binding["subjects"] = json!([{"kind": "User", "name": "eve"}]);
                store.put("rolebindings", "a", "pure-chaos-agent", binding);
            },
            |store| {
                let mut binding = store.remove("rolebindings", "a", "pure-chaos-agent").unwrap();
                binding["roleRef"]["name"] = json!("cluster-admin");
                store.put("rolebindings", "a", "pure-chaos-agent", binding);
            },
            |store| {
                let mut record = store.get("optins", "a", "chaos").unwrap();
                record["spec"]["settings"]["limit"] = json!(50);
                record["spec"]["admission"]["digest"] = json!("0");
                store.put("optins", "a", "chaos", record);
            },
            |store| {
                let mut record = store.get("optins", "a", "chaos").unwrap();
                record["spec"] = json!({"nonsense": true});
                store.put("optins", "a", "chaos", record);
            },
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            tokio::time::sleep(REST).await;
            fake.with(edit);
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
        fake.with(edits[0]);
        assert_eq!(look(&one, "a").await, Some(REST));
    });
}

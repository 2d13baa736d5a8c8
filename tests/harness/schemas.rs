//! JSON schemas of an API server's kinds, made of its own description, one file a kind, as kubeconform looks for them.

use std::path::Path;

use serde_json::{Map, Value, json};

/// The file that holds all definitions, which the others point into.
const ALL: &str = "all.json";

/// Writes them into a folder. `description` is what `/openapi/v2` answers.
pub fn write(description: &str, folder: &Path) {
    let description: Value = serde_json::from_str(description).unwrap();
    let mut definitions = description["definitions"].clone();
    make_strict(&mut definitions);
    std::fs::create_dir_all(folder).unwrap();
    for (name, definition) in definitions.as_object().unwrap() {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        for kind in kinds.into_iter().flatten() {
            let word = |key: &str| kind[key].as_str().unwrap_or_default();
            // For the core group it takes the version twice.
            let group = if word("group").is_empty() { word("version") } else { word("group") };
            let file = format!("{group}_{}_{}.json", word("version"), word("kind").to_lowercase());
            let schema = json!({"$ref": format!("{ALL}#/definitions/{name}")});
            std::fs::write(folder.join(file), schema.to_string()).unwrap();
        }
    }
    std::fs::write(folder.join(ALL), json!({"definitions": definitions}).to_string()).unwrap();
}

/// Says in JSON schema's words what the description says in its own: numbers where text stands for both, and no unknown fields.
fn make_strict(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(make_strict),
        Value::Object(members) => {
            if members.get("format").is_some_and(|format| format == "int-or-string")
                || members.get("x-kubernetes-int-or-string").is_some()
            {
                *members = Map::from_iter([("type".to_owned(), json!(["integer", "string"]))]);
            }
            let is_open = members.contains_key("additionalProperties")
                || members.contains_key("x-kubernetes-preserve-unknown-fields");
            if members.get("properties").is_some_and(Value::is_object) && !is_open {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(make_strict);
        }
        _ => {}
    }
}

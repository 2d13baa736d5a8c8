//! JSON schemas of an API server's kinds, made from the API server's own description. There is one
//! file for each kind, as kubeconform expects.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Writes the schemas into a folder. `description` is the answer to `/openapi/v2`.
pub fn write(description: &str, folder: &Path) {
    let mut description: Value = serde_json::from_str(description).unwrap();
    make_strict(&mut description["definitions"]);
    let definitions = description["definitions"].as_object().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    for (name, definition) in definitions {
        // A kind that belongs to many groups at once is in no manifest, such as options.
        let [kind] = definition["x-kubernetes-group-version-kind"].as_array().map_or(&[][..], Vec::as_slice)
        else {
            continue;
        };
        let word = |key: &str| kind[key].as_str().unwrap_or_default();
        // For the core group, the name contains the version twice.
        let group = if word("group").is_empty() { word("version") } else { word("group") };
        let file = format!("{group}_{}_{}.json", word("version"), word("kind").to_lowercase());
        let mut needed = BTreeMap::new();
        collect(name, definitions, &mut needed);
        let schema = json!({"$ref": format!("#/definitions/{name}"), "definitions": needed});
        std::fs::write(folder.join(file), schema.to_string()).unwrap();
    }
}

/// Collects a definition and all definitions that it refers to.
fn collect<'a>(
    name: &'a str,
    definitions: &'a Map<String, Value>,
    needed: &mut BTreeMap<&'a str, &'a Value>,
) {
    let definition = &definitions[name];
    if needed.insert(name, definition).is_none() {
        let mut names = Vec::new();
        references(definition, &mut names);
        for name in names {
            collect(name, definitions, needed);
        }
    }
}

fn references<'a>(value: &'a Value, names: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Object(members) => {
            let name =
                members.get("$ref").and_then(|reference| reference.as_str()?.strip_prefix("#/definitions/"));
            names.extend(name);
            members.values().for_each(|member| references(member, names));
        }
        _ => {}
    }
}

/// Translates the description into JSON schema. An int-or-string may be a number or a text, and
/// unknown fields are forbidden.
fn make_strict(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(make_strict),
        Value::Object(members) => {
            if members.get("format").is_some_and(|format| format == "int-or-string")
                || members.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
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

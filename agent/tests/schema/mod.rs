//! Checks a value against `docs/report.schema.json`, with the keywords that this schema uses. An unknown keyword is an
//! error, so that the check is never weaker than the schema. Fields that the schema does not describe are errors too, though
//! readers must accept them.

use std::path::Path;

use serde_json::Value;

/// What of `report` does not follow the schema.
pub(crate) fn check(report: &Value) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/report.schema.json");
    let text = std::fs::read_to_string(path).expect("the schema");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    let mut wrong = Vec::new();
    follow(&schema, &schema, report, "", &mut wrong);
    wrong
}

fn follow(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let mut say = |what: String| wrong.push(format!("{at}: {what}"));
    let keywords = schema.as_object().expect("a schema is an object");
    for (keyword, wanted) in keywords {
        match keyword.as_str() {
            "const" if wanted != value => say(format!("{value} is not {wanted}")),
            "enum" if !wanted.as_array().expect("values").contains(value) => {
                say(format!("{value} is none of {wanted}"));
            }
            "minimum" if value.as_f64() < wanted.as_f64() && !value.is_null() => {
                say(format!("{value} is less than {wanted}"));
            }
            "type" => {
                let one = std::slice::from_ref(wanted);
                let types = wanted.as_array().map_or(one, Vec::as_slice);
                if !types.iter().any(|name| is_type(value, name)) {
                    say(format!("{value} is no {wanted}"));
                }
            }
            "required" => {
                for name in wanted.as_array().expect("names") {
                    if value.get(name.as_str().expect("a name")).is_none() {
                        say(format!("{name} is missing"));
                    }
                }
            }
            // Fulfilled, followed below, or only words.
            "const" | "enum" | "minimum" | "properties" | "items" | "$ref" | "anyOf"
            | "$schema" | "$id" | "$defs" | "title" | "description" => {}
            other => panic!("the schema has the keyword {other}, which is not checked"),
        }
    }
    if let Some(name) = schema["$ref"].as_str() {
        let named = root.pointer(name.trim_start_matches('#'));
        follow(root, named.expect("a definition"), value, at, wrong);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let errors = any.iter().map(|one| {
            let mut wrong = Vec::new();
            follow(root, one, value, at, &mut wrong);
            wrong
        });
        let fewest = errors.min_by_key(Vec::len).expect("an alternative");
        wrong.extend(fewest);
    }
    if let (Some(described), Some(fields)) = (schema.get("properties"), value.as_object()) {
        for (name, field) in fields {
            let at = format!("{at}/{name}");
            match described.get(name) {
                Some(described) => follow(root, described, field, &at, wrong),
                None => wrong.push(format!("{at} is not described")),
            }
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, one) in values.iter().enumerate() {
            follow(root, items, one, &format!("{at}/{index}"), wrong);
        }
    }
}

fn is_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("the name of a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("the schema has the type {other}, which is not checked"),
    }
}

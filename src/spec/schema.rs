//! The JSON Schema of pipeline files, made from the types that serde reads.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::PipelineSpec;

/// The JSON Schema that `gleaner schema` prints and editors use.
pub fn schema() -> Value {
    let mut whole = annotated();
    strip_notes(&mut whole);
    whole
}

/// The schema with our own notes: `x-not-yet` (words of later versions) and `x-missing` (what to
/// do where a key is missing).
pub(super) fn annotated() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let schema = settings
        .into_generator()
        .into_root_schema_for::<PipelineSpec>();
    let mut value = schema.to_value();
    refuse_null(&mut value);
    value
}

/// An `Option` field may be left out, but a key without a value is a mistake; schemars allows
/// null for every `Option`.
fn refuse_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                properties.values_mut().for_each(without_null);
            }
            object.values_mut().for_each(refuse_null);
        }
        Value::Array(items) => items.iter_mut().for_each(refuse_null),
        _ => {}
    }
}

fn without_null(property: &mut Value) {
    let Some(object) = property.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(options)) = object.get_mut("anyOf") {
        options.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(one)] = options.as_mut_slice() {
            let one = std::mem::take(one);
            object.remove("anyOf");
            for (key, value) in one {
                object.entry(key).or_insert(value);
            }
        }
    }
}

fn strip_notes(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !key.starts_with("x-"));
            object.values_mut().for_each(strip_notes);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_notes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::schema;

    #[test]
    fn describes_every_key_and_keeps_no_notes() {
        let schema = schema();
        let text = schema.to_string();
        assert!(!text.contains("x-not-yet") && !text.contains("x-missing"));
        assert_eq!(schema["title"], "Gleaner pipeline");
        assert!(
            schema["$schema"]
                .as_str()
                .is_some_and(|s| s.contains("2020-12"))
        );
        for key in [
            "about",
            "vars",
            "source",
            "resume_within",
            "defaults",
            "streams",
            "sink",
        ] {
            let property = &schema["properties"][key];
            assert!(property["description"].is_string(), "{key}: {property}");
        }
        let source = &schema["$defs"]["SourceSpec"];
        assert_eq!(source["additionalProperties"], false);
        assert!(
            source["required"]
                .as_array()
                .is_some_and(|all| all.contains(&"limits".into()))
        );
    }
}

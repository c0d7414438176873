//! What is written agrees with the schemas in `docs/schema`.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::*;

const PAYLOADS: [PayloadEncoding; 3] = [PayloadEncoding::Base64, PayloadEncoding::Plain, PayloadEncoding::Json];

/// A schema of `docs/schema`.
struct Schema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema").join(name);
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler.enable_content_assertions();
        let text = fs::read_to_string(&path).expect("the schema");
        compiler.add_resource(name, serde_json::from_str(&text).expect("JSON")).expect("a schema");
        let index = compiler.compile(name, &mut schemas).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        Schema { schemas, index }
    }

    #[track_caller]
    fn takes(&self, value: &Value) {
        self.schemas.validate(value, self.index).unwrap_or_else(|error| panic!("{error:#}\n{value}"));
    }

    fn refuses(&self, value: &Value) {
        assert!(self.schemas.validate(value, self.index).is_err(), "{value}");
    }
}

#[test]
fn cloud_events_are_what_their_schema_says() {
    let schema = Schema::load("cloudevents-1.0.2.json");
    for detail in one_of_each() {
        let event = event("c", detail);
        schema.takes(&from_binary(&event));
        for payload in PAYLOADS {
            let mut value: Value = serde_json::from_str(&written(Format::CloudEventsJson, payload, &event)).expect("JSON");
            schema.takes(&value);
            value["specversion"].take();
            schema.refuses(&value);
        }
    }
    let (event, odd) = (event("c", Detail::SessionCreated), Text::from_static("knoten 1/ä%"));
    let value = value(&Scope::new(&event, &odd), Format::CloudEventsJson, PayloadEncoding::Base64);
    let value: Value = serde_json::from_slice(&value).expect("JSON");
    schema.takes(&value);
    assert_eq!(value["source"], "/hookgate/knoten%201%2F%C3%A4%25");
}

#[test]
fn envelopes_are_what_their_schema_says() {
    let schema = Schema::load("envelope-1.json");
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/envelope-1.json")).expect("the schema");
    let described: Value = serde_json::from_str(&text).expect("JSON");
    let names = |of: &Value| of.as_object().expect("an object").keys().cloned().collect::<BTreeSet<String>>();
    for detail in one_of_each() {
        let event = event("c", detail);
        for payload in PAYLOADS {
            let mut value: Value = serde_json::from_str(&written(Format::Envelope, payload, &event)).expect("JSON");
            schema.takes(&value);
            // New fields are allowed by the schema, so that what it does not describe is looked for here.
            let undescribed: Vec<String> = names(&value).difference(&names(&described["properties"])).cloned().collect();
            assert_eq!(undescribed, [""; 0], "{value}");
            for (field, definition) in [("client", "client"), ("message", "message")] {
                if let Some(part) = value.get(field) {
                    let described = names(&described["$defs"][definition]["properties"]);
                    assert!(names(part).is_subset(&described), "{part}");
                }
            }
            value["hook"] = "client.gone".into();
            schema.refuses(&value);
        }
    }
}

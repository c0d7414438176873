//! Every example is a configuration that Hookgate takes, with guests that this repository has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hookgate::config::{Config, Format};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The configuration of each folder below `examples/`.
fn examples() -> Vec<PathBuf> {
    let folders = fs::read_dir(root().join("examples")).unwrap();
    folders.map(|folder| folder.unwrap().path().join("hookgate.toml")).filter(|file| file.exists()).collect()
}

fn load(file: &Path) -> Config {
    Config::load(file).unwrap_or_else(|problems| panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>()))
}

#[test]
fn every_example_is_taken_and_its_guests_are_built_from_this_repository() {
    let files = examples();
    assert!(files.len() == fs::read_dir(root().join("examples")).unwrap().count(), "an example without hookgate.toml");
    for file in files {
        for guest in load(&file).guests {
            let path = &guest.path.value;
            let built = root().join("guests/target/wasm32-wasip2/release");
            assert_eq!(path.parent().unwrap().canonicalize().ok(), built.canonicalize().ok(), "{}", path.display());
            let source = path.file_stem().unwrap().to_str().unwrap().replace('_', "-");
            assert!(root().join("guests").join(&source).join("Cargo.toml").exists(), "{}: no guest {source}", file.display());
        }
    }
}

#[test]
fn the_smart_lock_routes_are_those_of_the_bridge_that_it_replaces() {
    let config = load(&root().join("examples/smart-lock/hookgate.toml"));
    let routes: Vec<String> = config
        .routes
        .iter()
        .map(|route| {
            let filters: Vec<String> = route.filters.iter().map(ToString::to_string).collect();
            let reasons: Vec<&str> = route.reasons.iter().map(|reason| reason.name()).collect();
            let guests: Vec<&str> = route.guests.iter().map(|guest| guest.value.as_str()).collect();
            let record = route.record.as_ref();
            assert!(record.is_none_or(|record| record.format == Format::EmqxBridge && record.key.to_string() == "${client_id}"));
            let words =
                [filters.join(","), reasons.join(","), guests.join(","), record.map_or("-".into(), |record| record.topic.to_string())];
            let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
            format!("{} {}", route.hook, words.join(" "))
        })
        .collect();
    assert_eq!(
        routes,
        [
            "message.publish devices/+/state low-battery message_state",
            "message.publish devices/+/command lock-command-verifier -",
            "message.acked devices/+/command message_command",
            "message.dropped devices/+/command denied message_audit",
            "client.connected client_connected",
            "client.disconnected client_disconnected",
            "session.subscribed session_subscribed",
            "session.unsubscribed session_unsubscribed",
        ]
    );
}

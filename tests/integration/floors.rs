//! The house stands as `src/lib.rs` draws it: a module imports only what lies below it, and one module names each engine.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules by floor; those of one floor are strangers.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["hook", "topic"]),
    (1, &["event", "config", "metrics"]),
    (2, &["guest", "kafka", "access", "store", "redis"]),
    (3, &["registry", "outbox"]),
    (4, &["pipeline"]),
    (5, &["source", "admin"]),
    (6, &["bridge"]),
    (7, &["cli", "main", "lib"]),
];

/// Crates that only these modules may name.
const ENGINES: &[(&str, &[&str])] = &[
    ("wasmtime", &["guest"]),
    ("wasmtime_wasi", &["guest"]),
    ("rdkafka", &["kafka"]),
    ("rumqttd", &["source"]),
    ("rmqtt_codec", &["source"]),
    ("fjall", &["store"]),
    ("redis", &["redis"]),
    ("rustls", &["source", "kafka"]),
    ("tokio_rustls", &["source"]),
    ("x509_parser", &["source"]),
    ("tokio_tungstenite", &["source"]),
    ("ppp", &["source"]),
    ("notify", &["registry"]),
    ("toml", &["config"]),
    ("ring", &["guest", "cli"]),
    ("argon2", &["access"]),
    ("anyhow", &["bridge", "cli", "main"]),
    ("clap", &["cli"]),
    ("axum", &["admin"]),
    ("ureq", &["cli", "kafka"]),
    ("rustls_native_certs", &["kafka"]),
];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file with the name of its top module and its code without comments.
fn modules() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(&root).expect("below src").to_owned();
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let code = fs::read_to_string(&path).expect("UTF-8");
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        (inside, first.trim_end_matches(".rs").to_owned(), code)
    };
    files.into_iter().map(read).collect()
}

/// The identifiers that follow `prefix` in the code.
fn names_after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let ident = |text: &'a str| text.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(top_level(list).into_iter().map(|item| ident(item.trim()))),
            None => names.push(ident(rest)),
        }
    }
    names
}

/// The items of a `{a::{b, c}, d}` list, up to its closing brace.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.into_iter().filter(|item| !item.trim().is_empty()).collect()
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (file, module, code) in modules() {
        let Some(own) = floor(&module) else {
            wrong.push(format!("{}: `{module}` stands on no floor", file.display()));
            continue;
        };
        for name in names_after(&code, "crate::") {
            let Some(other) = floor(name).filter(|_| name != module) else { continue };
            if other >= own {
                wrong.push(format!("{}: `{module}` (floor {own}) imports `{name}` (floor {other})", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_module_names_each_engine() {
    let mut wrong = Vec::new();
    for (file, module, code) in modules() {
        for (engine, allowed) in ENGINES {
            let named = code.match_indices(&format!("{engine}::")).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'))
            });
            if named && !allowed.contains(&module.as_str()) {
                wrong.push(format!("{}: names {engine}, which belongs to {allowed:?}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_itself_sees_imports() {
    assert_eq!(names_after("use crate::{a::{b, c}, d, e as f}; crate::g::h()", "crate::"), ["a", "d", "e", "g"]);
}

//! Deploying from files: all problems at once, what is unchanged stays, what is broken stays out.

mod trials;
mod versions;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::*;

/// A folder with a configuration and guests.
struct Deployment {
    folder: tempfile::TempDir,
    metrics: Arc<Metrics>,
    registry: Registry,
}

fn component(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/target/wasm32-wasip2/release").join(name).with_extension("wasm");
    let bytes = fs::read(&path);
    bytes.unwrap_or_else(|error| panic!("{}: {error}; run cargo xtask guests", path.display()))
}

impl Deployment {
    fn new() -> Self {
        let metrics = Metrics::new();
        let registry = Registry::for_trial(&config::Runtime::default(), &metrics).unwrap();
        Deployment { folder: tempfile::tempdir().unwrap(), metrics, registry }
    }

    /// Loads, as the bridge does.
    async fn load(&self, config: &Config, current: &Guests) -> Guests {
        let guests = self.registry.load(config, current).await.unwrap_or_else(|problems| panic!("{problems:#?}"));
        self.registry.commit(guests, current).await
    }

    /// Refreshes, as the bridge does.
    async fn refresh(&self, config: &Config, current: &Guests) -> (Guests, Vec<Problem>) {
        let (guests, problems) = self.registry.refresh(config, current, None).await;
        (self.registry.commit(guests, current).await, problems)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, text: &str) -> Config {
        let text = format!("listener = [{{ bind = \"127.0.0.1:0\" }}]\nkafka = {{ bootstrap_servers = \"embedded\" }}\n{text}");
        let (config, problems) = Config::parse(&self.path("hookgate.toml"), &text);
        assert_eq!(problems, []);
        config
    }

    fn swaps(&self, name: &str) -> (u64, u64) {
        let label = name.into();
        let (taken, refused) = (&self.metrics.guest_swaps, &self.metrics.guest_swaps_refused);
        (taken.get_or_create(&label).get(), refused.get_or_create(&label).get())
    }
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}:{} {}", problem.place.line, problem.place.column, problem.message)).collect()
}

#[tokio::test]
async fn every_problem_is_found_at_once() {
    let deployment = Deployment::new();
    fs::write(deployment.path("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    fs::write(deployment.path("text.wasm"), "hello").unwrap();
    fs::write(deployment.path("verify.wasm"), component("lock_command_verifier")).unwrap();
    fs::write(deployment.path("hostile.wasm"), component("hostile")).unwrap();
    fs::write(deployment.path("low-battery.wasm"), component("low_battery")).unwrap();
    let config = deployment.config(
        r#"guest = [
            { name = "missing", path = "nowhere.wasm" },
            { name = "core", path = "core.wasm" },
            { name = "text", path = "text.wasm" },
            { name = "verify", path = "verify.wasm", grants = ["state"] },
            { name = "hostile", path = "hostile.wasm", grants = ["log", "settings"], settings = { mode = "trap-at-start" } },
            { name = "battery", path = "low-battery.wasm", grants = ["settings"] },
        ]
        route = [
            { hook = "message.publish", guests = ["battery", "missing"] },
            { hook = "session.subscribed", guests = ["battery", "text"] },
        ]"#,
    );
    let problems = deployment.registry.load(&config, &Guests::default()).await.expect_err("all of it is wrong");
    let expected = [
        ("4:40", "nowhere.wasm cannot be read: No such file"),
        ("5:37", "this is a core WebAssembly module, not a component"),
        ("6:37", "this is not a WebAssembly component that can be compiled"),
        ("7:39", "it imports `hookgate:guest/crypto@0.1.0`, which it was not granted"),
        ("7:39", "it imports `hookgate:guest/settings@0.1.0`, which it was not granted"),
        ("8:40", "its trial run failed: it trapped: wasm `unreachable` instruction executed; it printed: "),
        ("13:54", "guest \"battery\" cannot be asked on session.subscribed: it does not export the interface `events`"),
    ];
    let found = texts(&problems);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((place, message), found) in expected.iter().zip(&found) {
        assert!(found.starts_with(&format!("{place} ")) && found.contains(message), "{place} {message}\n{found}");
    }
    assert!(problems.iter().all(|problem| problem.help.is_some()));
}

#[tokio::test]
async fn a_reload_keeps_what_is_the_same() {
    let deployment = Deployment::new();
    fs::write(deployment.path("one.wasm"), component("identity")).unwrap();
    fs::write(deployment.path("two.wasm"), component("low_battery")).unwrap();
    let text = |threshold: u32| {
        format!(
            "# moves everything down a line\nguest = [{{ name = \"one\", path = \"one.wasm\" }}, \
             {{ name = \"two\", path = \"two.wasm\", grants = [\"settings\"], settings = {{ threshold = {threshold} }} }}]"
        )
    };
    let first = deployment.load(&deployment.config(&text(10)), &Guests::default()).await;
    let second = deployment.load(&deployment.config(&format!("\n{}", text(20))), &first).await;
    let same = |name: &str| Arc::ptr_eq(first.get(name).unwrap(), second.get(name).unwrap());
    assert!(same("one") && !same("two"));
    assert!(Arc::ptr_eq(&first.0["two"].state, &second.0["two"].state));
    assert_eq!((deployment.swaps("one"), deployment.swaps("two")), ((0, 0), (1, 0)));
    let names: Vec<&str> = second.iter().map(|guest| guest.name()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(second.get("three").is_none());
}

#[tokio::test]
async fn a_new_version_is_taken_and_a_bad_one_is_not() {
    let deployment = Deployment::new();
    let path = deployment.path("guest.wasm");
    fs::write(&path, component("identity")).unwrap();
    let config = deployment.config(
        r#"guest = [{ name = "guest", path = "guest.wasm", grants = ["settings"], settings = { mode = "pass" } }]
        route = [{ hook = "message.publish", guests = ["guest"] }, { hook = "client.connected", guests = ["guest"] }]"#,
    );
    let first = deployment.load(&config, &Guests::default()).await;
    let running = |guests: &Guests| guests.get("guest").unwrap().current().digest().to_owned();

    for (bytes, problem) in [
        (component("identity"), None),
        (b"\0asm\x0d\0\x01\0half of a comp".to_vec(), Some("not a WebAssembly component that can be compiled")),
        (component("low_battery"), Some("cannot be asked on client.connected: it does not export the interface `events`")),
        (component("hostile"), Some("`hookgate:guest/log@0.1.0`, which it was not granted")),
    ] {
        fs::write(&path, bytes).unwrap();
        let (guests, problems) = deployment.refresh(&config, &first).await;
        assert_eq!(running(&guests), running(&first));
        let found = texts(&problems);
        assert_eq!(found.len(), usize::from(problem.is_some()), "{found:?}");
        assert!(found.iter().all(|found| problem.is_some_and(|problem| found.contains(problem))), "{problem:?} {found:?}");
    }
    assert_eq!(deployment.swaps("guest"), (0, 3));

    fs::remove_file(&path).unwrap();
    let (guests, problems) = deployment.refresh(&config, &first).await;
    assert_eq!((running(&guests), problems.len()), (running(&first), 1), "a file that is gone stops nothing");

    let granted = deployment.config(
        r#"guest = [{ name = "guest", path = "guest.wasm", grants = ["settings", "log"], settings = { mode = "pass" } }]
        route = [{ hook = "message.publish", guests = ["guest"] }, { hook = "client.connected", guests = ["guest"] }]"#,
    );
    fs::write(&path, component("hostile")).unwrap();
    let (guests, problems) = deployment.refresh(&granted, &first).await;
    assert_eq!(problems, []);
    assert_ne!(running(&guests), running(&first));
    assert!(Arc::ptr_eq(&guests.0["guest"].state, &first.0["guest"].state));
    assert_eq!(deployment.swaps("guest"), (1, 4));
    let failures = ReasonLabel { name: "guest".into(), reason: "trap".into() };
    assert_eq!(deployment.metrics.guest_failures.get_or_create(&failures).get(), 0);
}

/// A writer that makes long pauses: the guest is refused only when it stays broken.
#[tokio::test]
async fn a_file_that_is_being_written_is_waited_for() {
    let deployment = Deployment::new();
    let path = deployment.path("guest.wasm");
    fs::write(&path, component("identity")).unwrap();
    let config = deployment.config("guest = [{ name = \"guest\", path = \"guest.wasm\", grants = [\"settings\"] }]");
    let first = deployment.load(&config, &Guests::default()).await;

    let whole = component("low_battery");
    let (half, _) = whole.split_at(whole.len() / 2);
    fs::write(&path, half).unwrap();
    let writer = {
        let (path, whole) = (path.clone(), whole.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            fs::write(path, whole).unwrap();
        })
    };
    let (guests, problems) = deployment.refresh(&config, &first).await;
    writer.await.unwrap();
    assert_eq!(problems, []);
    assert_eq!(guests.get("guest").unwrap().current().digest(), crate::guest::digest(&whole));
}

//! MQTT.js, the client of browsers and Node, by its own rules: both versions over TCP and WebSocket.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::support::Gate;

/// Talks as long as MQTT.js is content; skipped aloud where Node or the package is missing.
async fn content(gate: &Gate, url: String) {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mqttjs/node_modules");
    if !modules.join("mqtt").exists() {
        return eprintln!("SKIPPED: MQTT.js is not in target/mqttjs; `cargo xtask test` fetches it where npm is installed");
    }
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).args(["-", &url]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match node.spawn() {
        Ok(child) => child,
        Err(error) => return eprintln!("SKIPPED: node does not start: {error}; install nodejs to have this test"),
    };
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        child.stdin.take().unwrap().write_all(include_bytes!("mqtt_js.js")).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("MQTT.js is content"), "{url}: {said}\n{complaint}");
    gate.until("all have said goodbye", |gate| gate.bridge.metrics().connections.get() == 0).await;
}

#[tokio::test]
async fn mqtt_js_over_tcp() {
    let gate = Gate::start("", &[]).await;
    content(&gate, format!("mqtt://{}", gate.address())).await;
}

#[tokio::test]
async fn mqtt_js_over_websocket() {
    let gate = Gate::start("[[listener]]\nname = \"ws\"\nprotocol = \"ws\"\nbind = \"127.0.0.1:0\"", &[]).await;
    let address = gate.bridge.addresses().iter().find(|(name, _)| name == "ws").expect("the listener").1;
    content(&gate, format!("ws://{address}/mqtt")).await;
}

//! The device's own address: behind the PROXY protocol, by HAProxy, and over IPv6.

use std::{
    fs,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use rustls::version::TLS13;
use tokio::net::{TcpSocket, TcpStream};

use super::{
    House,
    certificates::{Authority, here},
    come_in, connect, ping, rest, say,
};
use crate::support::{Gate, PATIENCE, json, records};

const CONNECTED: &str = "[[route]]\nhook = \"client.connected\"\ntopic = \"connected\"\n";

/// Version 2, TCP over IPv4, from 192.0.2.7:49152, with extensions.
fn v2(extensions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + extensions.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &[192, 0, 2, 7, 127, 0, 0, 1, 0xC0, 0, 7, 0x5B], extensions].concat()
}

/// The client ids of the first `count` clients that were connected, with their addresses and certificates' names.
async fn connected(gate: &Gate, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for record in records(&gate.kafka(), &["connected"], count).await {
        let client = &json(&record)["client"];
        lines.push(format!("{} {} {}", client["client_id"], client["peer"], client["certificate_name"]).replace('"', ""));
    }
    lines.sort();
    lines
}

fn address(gate: &Gate, door: &str) -> SocketAddr {
    gate.bridge.addresses().iter().find(|(name, _)| name == door).unwrap().1
}

#[tokio::test]
async fn a_header_names_the_device() {
    let authority = Authority::new();
    let tls = authority.sign("server", None, &[]).settings();
    let proxied = "proxy_protocol = \"required\"\nproxy_from = [\"127.0.0.0/8\"]\nbind = \"127.0.0.1:0\"\n";
    let doors = format!(
        "[[listener]]\nname = \"plain\"\n{proxied}[[listener]]\nname = \"tls\"\nprotocol = \"mqtts\"\ntls = {{ {tls} }}\n{proxied}"
    );
    let gate = Gate::start(&format!("{doors}{CONNECTED}"), &[]).await;
    let ssl = b"\x20\x00\x0F\x03\0\0\0\0\x22\x00\x07lock-77";
    for (client_id, header) in [
        ("v1", b"PROXY TCP6 2001:db8::7 ::1 49152 1883\r\n".to_vec()),
        ("v2", v2(&[])),
        ("v2-named", v2(ssl)),
        ("local", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec()),
    ] {
        let mut socket = TcpStream::connect(address(&gate, "plain")).await.unwrap();
        // Header and CONNECT at once: what follows the header is not lost.
        say(&mut socket, &[header, connect(4, client_id, 0)].concat()).await;
        super::expect(&mut socket, &super::LET_IN).await;
    }
    let mut socket = TcpStream::connect(address(&gate, "tls")).await.unwrap();
    say(&mut socket, &v2(&[])).await;
    let mut stream = authority.client(&[&TLS13], None).connect(here(), socket).await.unwrap();
    come_in(&mut stream, "tls").await;
    let found = connected(&gate, 5).await;
    assert!(found[0].starts_with("local 127.0.0.1:"), "the proxy's own: {found:?}");
    assert_eq!(
        found[1..],
        ["tls 192.0.2.7:49152 null", "v1 [2001:db8::7]:49152 null", "v2 192.0.2.7:49152 null", "v2-named 192.0.2.7:49152 lock-77",]
    );
}

#[tokio::test]
async fn who_is_no_proxy_or_sends_no_header_is_refused() {
    let door = |name: &str, from: &str| {
        format!("[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\nproxy_from = \"{from}\"\n")
    };
    let house = House::start(&(door("elsewhere", "10.0.0.0/8") + &door("here", "127.0.0.1"))).await;
    for (door, header, reason) in [
        ("elsewhere", v2(&[]), "proxy-not-allowed"),
        ("here", Vec::new(), "proxy-header"),
        ("here", b"PROXY NONSENSE\r\n".to_vec(), "proxy-header"),
    ] {
        let before = house.refused(reason);
        let mut socket = house.knock(door).await;
        say(&mut socket, &[header, connect(4, "device", 0)].concat()).await;
        assert_eq!(rest(&mut socket).await, b"", "{door}");
        house.until(reason, |house| house.refused(reason) == before + 1).await;
    }
}

/// HAProxy in the foreground; ended when it is dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn haproxy_hands_on_the_devices_own_address() {
    let door = "[[listener]]\nname = \"proxied\"\nbind = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\nproxy_from = [\"127.0.0.1\"]\n";
    let gate = Gate::start(&format!("{door}{CONNECTED}"), &[]).await;
    for (version, send) in [("one", "send-proxy"), ("two", "send-proxy-v2")] {
        // HAProxy takes the listening socket as its standard input: so the port is known and free.
        let front = StdListener::bind("127.0.0.1:0").unwrap();
        let public = front.local_addr().unwrap();
        let file = gate.folder.path().join("haproxy.cfg");
        let configuration = format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
             listen mqtt\n  bind fd@0\n  server gate {} {send}\n",
            address(&gate, "proxied")
        );
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::from(OwnedFd::from(front)));
        let _proxy = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Proxy(child),
            Err(error) => return eprintln!("SKIPPED: haproxy does not start: {error}; install it to have this test"),
        };
        // The device has another address than the proxy.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut device = tokio::time::timeout(PATIENCE, socket.connect(public)).await.expect("in time").unwrap();
        let own = device.local_addr().unwrap();
        come_in(&mut device, version).await;
        ping(&mut device).await;
        let expected = format!("{version} {own} null");
        let found = connected(&gate, if version == "one" { 1 } else { 2 }).await;
        assert!(found.contains(&expected), "{expected}: {found:?}");
    }
}

#[tokio::test]
async fn ipv6_is_listened_on_and_ipv4_in_its_clothes_is_ipv4() {
    if let Err(error) = StdListener::bind("[::1]:0") {
        return eprintln!("SKIPPED: this machine has no IPv6: {error}");
    }
    let doors = "[[listener]]\nname = \"six\"\nbind = \"[::1]:0\"\n[[listener]]\nname = \"both\"\nbind = \"[::]:0\"\n";
    let gate = Gate::start(&format!("{doors}{CONNECTED}"), &[]).await;
    let mut six = TcpStream::connect(address(&gate, "six")).await.unwrap();
    come_in(&mut six, "a-six").await;
    let mut expected = vec![format!("a-six {} null", six.local_addr().unwrap())];
    match TcpStream::connect(("127.0.0.1", address(&gate, "both").port())).await {
        Ok(mut four) => {
            come_in(&mut four, "b-four").await;
            expected.push(format!("b-four {} null", four.local_addr().unwrap()));
        }
        Err(error) => eprintln!("SKIPPED in part: IPv6 sockets of this machine take no IPv4: {error}"),
    }
    assert_eq!(connected(&gate, expected.len()).await, expected);
}

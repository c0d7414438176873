//! What becomes of a message, by QoS, session and presence of its subscriber: the truth table that operators check a broker with, by their
//! own tools, mosquitto_pub and mosquitto_sub. Skipped aloud where they are not installed.
//!
//! Nothing here waits for silence: each question ends with a message that must arrive, and what came before it is the answer.

use std::{
    io::Write as _,
    process::{Child, Command, Output, Stdio},
};

use crate::support::{Gate, PATIENCE};

/// 3.1.1 and 5, as mosquitto's clients want them named; how to keep a session for a while.
const VERSIONS: [(&str, &str); 2] = [("mqttv311", ""), ("mqttv5", "-x 600")];

/// A gate, and mosquitto's clients for it in one version of the protocol.
struct Bench {
    gate: Gate,
    version: &'static str,
    /// What `-c` needs beside it to keep the session.
    kept: &'static str,
}

impl Bench {
    /// One for each version; none, said aloud, where the clients are not installed.
    async fn all() -> Vec<Bench> {
        for program in ["mosquitto_pub", "mosquitto_sub"] {
            if let Err(error) = Command::new(program).arg("--version").output() {
                eprintln!("SKIPPED: {program} does not start: {error}; install mosquitto's clients to have this test");
                return Vec::new();
            }
        }
        let mut benches = Vec::new();
        for (version, kept) in VERSIONS {
            benches.push(Bench { gate: Gate::start("", &[]).await, version, kept });
        }
        benches
    }

    fn command(&self, program: &str, words: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.gate.address().port().to_string(), "-V", self.version]);
        command.args(words.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, program: &str, words: &str) -> Child {
        self.command(program, words).spawn().unwrap()
    }

    /// Runs a client to its end with `input`.
    async fn finish(&self, program: &str, words: &str, input: String) -> Output {
        let mut child = self.start(program, words);
        let run = tokio::task::spawn_blocking(move || {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(input.as_bytes()).unwrap();
            drop(stdin);
            child.wait_with_output().unwrap()
        });
        let output = tokio::time::timeout(2 * PATIENCE, run).await.unwrap_or_else(|_| panic!("{program} {words} does not end")).unwrap();
        assert!(output.status.success(), "{} {program} {words}: {output:?}", self.version);
        output
    }

    /// Publishes one message, and waits until the broker has it: at QoS 0 the client does not.
    async fn publish(&self, words: &str) {
        let received = |gate: &Gate| gate.bridge.metrics().messages_received.get();
        let before = received(&self.gate);
        self.finish("mosquitto_pub", words, String::new()).await;
        self.gate.until("the message has arrived", |gate| received(gate) > before).await;
    }

    /// What a subscriber prints until it has got `count` messages.
    async fn subscribe(&self, words: &str, count: usize) -> Vec<String> {
        let output = self.finish("mosquitto_sub", &format!("{words} -C {count} -W 40"), String::new()).await;
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Subscribes under a name, keeps the session, and goes away.
    async fn leave(&self, who: &str, topic: &str, qos: u8) {
        self.finish("mosquitto_sub", &format!("-c -i {who} {} -q {qos} -t {topic} -E", self.kept), String::new()).await;
    }

    /// Publishes these behind one another: messages of one publisher keep their order.
    async fn publish_all(&self, words: &str, payloads: &[&str]) {
        self.finish("mosquitto_pub", &format!("{words} -l"), payloads.join("\n") + "\n").await;
    }

    /// Comes back to that session, and gets exactly these first, as QoS and payload.
    async fn come_back(&self, who: &str, topic: &str, qos: u8, expected: &[String]) {
        let words = format!("-c -i {who} {} -q {qos} -t {topic} -F %q:%p", self.kept);
        assert_eq!(self.subscribe(&words, expected.len()).await, expected, "{} {who}", self.version);
    }

    /// Comes back to that session, and gets nothing but what is published then.
    async fn come_back_to_nothing(&self, who: &str, topic: &str, qos: u8) {
        let subscribed = |gate: &Gate| gate.bridge.metrics().hook_events.get_or_create(&"session.subscribed".into()).get();
        let before = subscribed(&self.gate);
        let subscriber = self.start("mosquitto_sub", &format!("-c -i {who} {} -q {qos} -t {topic} -C 1 -W 40", self.kept));
        self.gate.until("it has subscribed", |gate| subscribed(gate) > before).await;
        self.publish(&format!("-q {qos} -t {topic} -m end")).await;
        let output = tokio::task::spawn_blocking(move || subscriber.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "end\n", "{} {who}", self.version);
    }

    /// Waits until this many clients are connected.
    async fn connected(&self, count: i64) {
        self.gate.until("the clients have come or gone", |gate| gate.bridge.metrics().connections.get() == count).await;
    }
}

#[tokio::test]
async fn without_a_subscriber_a_message_is_lost() {
    for bench in Bench::all().await {
        for qos in 0..=2 {
            bench.publish(&format!("-q {qos} -t lost -m nobody-hears")).await;
        }
        bench.publish("-r -q 2 -t end -m end").await;
        assert_eq!(bench.subscribe("-q 2 -t lost -t end", 1).await, ["end"], "{}", bench.version);
        // A clean session does not help: it ends with its connection.
        bench.finish("mosquitto_sub", "-i clean -q 2 -t lost -E", String::new()).await;
        bench.publish("-q 2 -t lost -m nobody-hears").await;
        assert_eq!(bench.subscribe("-i clean -q 2 -t lost -t end", 1).await, ["end"], "{}", bench.version);
    }
}

/// Queued at the lower of both QoS. Where that is 0 the standard lets the broker choose [MQTT-3.1.2-5 of 3.1.1]; this one queues it, too.
#[tokio::test]
async fn a_kept_session_gets_what_came_while_it_was_away() {
    for bench in Bench::all().await {
        for subscribed in 0..=2 {
            for published in 0..=2 {
                let (who, topic) = (format!("away-{subscribed}-{published}"), format!("away/{subscribed}/{published}"));
                bench.leave(&who, &topic, subscribed).await;
                bench.publish_all(&format!("-q {published} -t {topic}"), &["hello", "world"]).await;
                let qos = subscribed.min(published);
                bench.come_back(&who, &topic, subscribed, &[format!("{qos}:hello"), format!("{qos}:world")]).await;
            }
        }
    }
}

#[tokio::test]
async fn many_messages_wait_and_come_in_order() {
    const COUNT: usize = 3_000;
    for bench in Bench::all().await {
        for qos in 1..=2 {
            let (who, topic) = (format!("many-{qos}"), format!("many/{qos}"));
            bench.leave(&who, &topic, qos).await;
            let lines: Vec<String> = (0..COUNT).map(|number| format!("message {number}")).collect();
            bench.finish("mosquitto_pub", &format!("-q {qos} -t {topic} -l"), lines.join("\n") + "\n").await;
            let got = bench.subscribe(&format!("-c -i {who} {} -q {qos} -t {topic}", bench.kept), COUNT).await;
            assert!(
                got == lines,
                "{} QoS {qos}: {} of {COUNT}, first difference at {:?}",
                bench.version,
                got.len(),
                first_difference(&got, &lines)
            );
        }
    }
}

fn first_difference(got: &[String], expected: &[String]) -> Option<usize> {
    got.iter().zip(expected).position(|(one, other)| one != other)
}

#[tokio::test]
async fn a_session_that_ended_has_lost_what_it_had() {
    for bench in Bench::all().await {
        // Ended by its client, which comes once without -c.
        bench.leave("ender", "ended", 1).await;
        bench.publish("-q 1 -t ended -m queued").await;
        bench.finish("mosquitto_sub", "-i ender -q 1 -t other -E", String::new()).await;
        bench.come_back_to_nothing("ender", "ended", 1).await;
        // Ended by its expiry, which only MQTT 5 can say.
        if bench.version == "mqttv5" {
            bench.finish("mosquitto_sub", "-c -i brief -x 1 -q 1 -t brief -E", String::new()).await;
            bench.publish("-q 1 -t brief -m queued").await;
            bench.gate.until("the session has expired", |gate| gate.bridge.metrics().sessions.get() <= 1).await;
            bench.come_back_to_nothing("brief", "brief", 1).await;
        }
    }
}

#[tokio::test]
async fn present_subscribers_get_the_lower_of_both_qos() {
    for bench in Bench::all().await {
        for subscribed in 0..=2 {
            bench.connected(0).await;
            let subscriber = bench.start("mosquitto_sub", &format!("-q {subscribed} -t here -C 3 -W 40 -F %q:%r:%p"));
            bench.gate.until("it has subscribed", |gate| gate.bridge.metrics().subscriptions.get() == 1).await;
            for published in 0..=2 {
                bench.publish(&format!("-q {published} -t here -m m{published}")).await;
            }
            let output = tokio::task::spawn_blocking(move || subscriber.wait_with_output().unwrap()).await.unwrap();
            let expected: Vec<String> = (0..=2).map(|published| format!("{}:0:m{published}", subscribed.min(published))).collect();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut got: Vec<&str> = said.lines().collect();
            got.sort_unstable(); // three publishers are in no order among themselves
            assert_eq!(got, expected, "{}", bench.version);
        }
    }
}

#[tokio::test]
async fn retained_messages_wait_for_new_subscribers() {
    for bench in Bench::all().await {
        bench.publish("-r -q 2 -t end -m end").await;
        for (name, publishes, expected) in [
            ("the last one stays", &["-r -q 1 -m old", "-r -q 1 -m new"][..], &["1:1:new"][..]),
            ("without -r it passes", &["-q 1 -m passing"], &[]),
            ("and does not replace", &["-r -q 2 -m kept", "-q 2 -m passing"], &["2:1:kept"]),
            ("an empty one removes", &["-r -q 1 -m x", "-r -n"], &[]),
        ] {
            let topic = format!("retained/{}", name.replace(' ', "-"));
            for publish in publishes {
                bench.publish(&format!("{publish} -t {topic}")).await;
            }
            let got = bench.subscribe(&format!("-q 2 -t {topic} -t end -F %q:%r:%p"), expected.len() + 1).await;
            assert_eq!(got.split_last().unwrap().1, expected, "{} {name}", bench.version);
        }
    }
}

#[tokio::test]
async fn wills_tell_of_those_who_vanish() {
    for bench in Bench::all().await {
        for (name, goodbye) in [("vanished", false), ("left", true)] {
            let (who, topic) = (format!("heir-{name}"), format!("will/{name}"));
            bench.leave(&who, &topic, 2).await;
            let will = format!("-i {name} -t nothing --will-topic {topic} --will-payload gone --will-qos 2");
            if goodbye {
                bench.finish("mosquitto_sub", &format!("{will} -E"), String::new()).await;
                bench.connected(0).await;
                bench.come_back_to_nothing(&who, &topic, 2).await;
            } else {
                bench.connected(0).await;
                let mut client = bench.start("mosquitto_sub", &will);
                bench.connected(1).await;
                client.kill().unwrap();
                client.wait().unwrap();
                bench.come_back(&who, &topic, 2, &["2:gone".to_owned()]).await;
            }
        }
    }
}

#[tokio::test]
async fn user_names_and_identifiers_are_taken() {
    for bench in Bench::all().await {
        bench.publish("-u app -P secret -i with/+#$ -r -q 1 -t named -m hello").await;
        assert_eq!(bench.subscribe("-u app -P secret -t named -v", 1).await, ["named hello"], "{}", bench.version);
    }
}

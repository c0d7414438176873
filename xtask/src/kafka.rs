//! A real Apache Kafka for tests, benchmarks and by hand: jars by Maven, one node in `target/kafka`.

use std::{fs, path::PathBuf, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

pub(crate) use self::real_kafka::RealKafka;
use crate::step;

#[path = "../../tests/integration/real_kafka.rs"]
#[allow(unreachable_pub, reason = "there it is a module of the test program")]
pub(crate) mod real_kafka;

/// The version that everything here was tried with.
const VERSION: &str = "4.1.0";

fn folder() -> PathBuf {
    step::root().join("target/kafka")
}

/// Fetches the jars unless they are there; `None`, said aloud, where Java or Maven is missing.
pub(crate) fn libs() -> Result<Option<PathBuf>> {
    let libs = folder().join(format!("libs-{VERSION}"));
    let mut missing = vec!["java"];
    if !libs.exists() {
        missing.push("mvn");
    }
    missing.retain(|program| !step::exists(program, "-version"));
    if !missing.is_empty() {
        eprintln!("xtask: no real Kafka: {} cannot be started (Debian: apt-get install default-jre-headless maven)", missing.join(", "));
        return Ok(None);
    }
    if !libs.exists() {
        // Under another name until all are there.
        let partial = folder().join("libs-partial");
        fs::create_dir_all(&partial)?;
        let pom = folder().join("pom.xml");
        fs::write(&pom, pom_xml())?;
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(&pom);
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]).arg(format!("-DoutputDirectory={}", partial.display()));
        step::run(&mut maven)?;
        fs::rename(&partial, &libs)?;
    }
    Ok(Some(libs))
}

/// Starts a node with nothing in it that lives as long as the returned value.
pub(crate) fn start_fresh(libs: &std::path::Path) -> Result<RealKafka> {
    let data = folder().join("fresh");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let start = Instant::now();
    let kafka = RealKafka::start_with(libs, &data, port)?;
    eprintln!("xtask: Apache Kafka {VERSION} at {}: {:.1} s", kafka.address(), start.elapsed().as_secs_f64());
    Ok(kafka)
}

/// `cargo xtask kafka start`: a node that stays, on the data it had.
pub(crate) fn start(port: u16) -> Result<()> {
    if real_kafka::answers(&format!("127.0.0.1:{port}")) {
        bail!("a Kafka answers on port {port} already; `cargo xtask kafka stop` ends the one that was started here");
    }
    let Some(libs) = libs()? else { bail!("Java and Maven are needed") };
    let start = Instant::now();
    let kafka = RealKafka::start_with(&libs, &folder().join("node"), port)?;
    let address = kafka.address();
    let process = kafka.leave_running().context("it has no process")?;
    fs::write(pid_file(), process.to_string())?;
    eprintln!("xtask: Apache Kafka {VERSION}, process {process}: {:.1} s", start.elapsed().as_secs_f64());
    eprintln!("xtask: topics come into being when they are used; read with: kcat -b {address} -t TOPIC -C");
    eprintln!("xtask: end it with: cargo xtask kafka stop; its data and log are in {}", folder().join("node").display());
    println!("KAFKA={address}");
    Ok(())
}

/// `cargo xtask kafka stop`
pub(crate) fn stop() -> Result<()> {
    let process = fs::read_to_string(pid_file()).context("no Kafka was started by `cargo xtask kafka start`")?;
    step::run(Command::new("kill").arg(process.trim()))?;
    fs::remove_file(pid_file())?;
    Ok(())
}

fn pid_file() -> PathBuf {
    folder().join("pid")
}

fn pom_xml() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!("<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>")
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        dependency("org.slf4j", "slf4j-reload4j", "1.7.36"), // without a binding, Kafka's log stays empty
    ];
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>hookgate</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{}</dependencies></project>\n",
        dependencies.concat()
    )
}

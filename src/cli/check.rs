//! `hookgate check`: what the configuration says, and with `--connect` what Kafka says to it.

use super::{ConfigFile, Exit};
use crate::{
    bridge,
    config::Problem,
    kafka::{Finding, Inspection, Severity, TopicFacts},
};

/// Arguments of `hookgate check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Ask every Kafka cluster, too: does it answer, does it know this user, are the topics there, may they be written, do they take what
    /// devices may send. Writes nothing and creates nothing.
    #[arg(long)]
    connect: bool,
    /// Print the problems as one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Exit> {
    let file = &args.file.config;
    let problems = bridge::check(file).await?;
    // A configuration that is wrong asks Kafka the wrong questions.
    let (warnings, clusters) = bridge::look_closer(file, args.connect && problems.is_empty()).await?;
    let errors = clusters.iter().flat_map(|cluster| &cluster.findings).filter(|finding| finding.severity == Severity::Error).count();
    if args.json {
        let ok = problems.is_empty() && errors == 0;
        let list = |problems: &[Problem]| problems.iter().map(json).collect::<Vec<_>>();
        let mut document = serde_json::json!({ "ok": ok, "problems": list(&problems), "warnings": list(&warnings) });
        if args.connect {
            document["clusters"] = clusters.iter().map(cluster_json).collect();
        }
        println!("{document}");
    } else {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        clusters.iter().for_each(show);
        if problems.is_empty() && errors == 0 {
            println!("{}: fine", file.display());
        }
    }
    match (problems.is_empty(), errors) {
        (false, _) => Err(Exit::Problems(problems)),
        (true, 0) => Ok(()),
        (true, 1) => Err(Exit::Failed(anyhow::anyhow!("Kafka is not ready for this configuration"))),
        (true, errors) => Err(Exit::Failed(anyhow::anyhow!("Kafka is not ready for this configuration, for {errors} reasons"))),
    }
}

fn show(cluster: &Inspection) {
    let Inspection { cluster: name, servers, brokers, topics, findings } = cluster;
    match brokers {
        Some(1) => println!("{name} ({servers}): answers, 1 broker"),
        Some(brokers) => println!("{name} ({servers}): answers, {brokers} brokers"),
        None => println!("{name} ({servers}): does not answer"),
    }
    for TopicFacts { name, partitions, replication, min_insync_replicas, max_message_bytes, may_write } in topics {
        let least = min_insync_replicas.map(|least| format!(", min.insync.replicas {least}")).unwrap_or_default();
        let most = max_message_bytes.map(|most| format!(", max.message.bytes {most}")).unwrap_or_default();
        let right = match may_write {
            Some(true) => ", may be written",
            Some(false) => ", may not be written",
            None => "",
        };
        println!("  {name}: partitions {partitions}, copies {replication}{least}{most}{right}");
    }
    for Finding { severity, topic, message, help } in findings {
        let word = if *severity == Severity::Error { "error" } else { "warning" };
        let about = topic.as_ref().map_or_else(String::new, |topic| format!("topic {topic} "));
        eprintln!("{word}: cluster {name}: {about}{message}\n    help: {help}");
    }
}

fn json(problem: &Problem) -> serde_json::Value {
    let place = &problem.place;
    serde_json::json!({
        "file": place.file.display().to_string(), "line": place.line, "column": place.column,
        "message": problem.message, "help": problem.help,
    })
}

fn cluster_json(cluster: &Inspection) -> serde_json::Value {
    let topic = |facts: &TopicFacts| {
        serde_json::json!({
            "name": facts.name, "partitions": facts.partitions, "replication": facts.replication,
            "min_insync_replicas": facts.min_insync_replicas, "max_message_bytes": facts.max_message_bytes, "may_write": facts.may_write,
        })
    };
    let finding = |finding: &Finding| {
        let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
        serde_json::json!({ "severity": severity, "topic": finding.topic, "message": finding.message, "help": finding.help })
    };
    serde_json::json!({
        "name": cluster.cluster, "servers": cluster.servers, "answers": cluster.brokers.is_some(), "brokers": cluster.brokers,
        "topics": cluster.topics.iter().map(topic).collect::<Vec<_>>(),
        "findings": cluster.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

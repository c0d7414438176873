//! Reads every topic from its beginning, as a consumer that sees committed records only, and shows each record to the judge.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rdkafka::{Message as _, Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaError};

use crate::{
    class::{ClassId, Stream, streams},
    judge::{Judge, Record},
    topics::{DEAD_LETTERS, PARTITIONS, consumer, ends},
};

/// How long Kafka may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a transaction whose producer is dead may stay open; Hookgate's default and a little more.
const TRANSACTION_PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing may change until everything counts as arrived.
const QUIET: Duration = Duration::from_secs(3);

fn topics(classes: &[ClassId]) -> Vec<String> {
    streams(classes).into_iter().map(Stream::kafka_topic).chain([DEAD_LETTERS.to_owned()]).collect()
}

/// Waits until nothing arrives any more, at most `patience`; what is spooled arrives late.
///
/// # Errors
/// Kafka does not answer.
pub(crate) fn await_quiet(bootstrap: &str, classes: &[ClassId], patience: Duration) -> Result<()> {
    let (consumer, topics) = (consumer(bootstrap, "read_uncommitted")?, topics(classes));
    let (mut last, mut since, deadline) = (Vec::new(), Instant::now(), Instant::now() + patience);
    while since.elapsed() < QUIET {
        let now = ends(&consumer, &topics);
        if Instant::now() > deadline {
            now?;
            return Ok(());
        }
        let now = now.unwrap_or_default(); // leaders are being elected: not quiet yet
        if now.is_empty() || now != last {
            (last, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// Waits until no transaction is open; the partitions where one is when patience ends.
///
/// # Errors
/// Kafka does not answer.
pub(crate) fn await_committed(bootstrap: &str, classes: &[ClassId]) -> Result<Vec<String>> {
    let topics = topics(classes);
    let (all, committed) = (consumer(bootstrap, "read_uncommitted")?, consumer(bootstrap, "read_committed")?);
    let deadline = Instant::now() + TRANSACTION_PATIENCE;
    loop {
        let asked = ends(&committed, &topics).and_then(|stable| Ok((stable, ends(&all, &topics)?)));
        if asked.is_err() && Instant::now() < deadline {
            continue; // leaders are being elected
        }
        let (stable, end) = asked?;
        let partitions = topics.iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| format!("{topic} {partition}")));
        let open: Vec<String> =
            partitions.zip(stable.iter().zip(&end)).filter(|(_, (stable, end))| stable < end).map(|(name, _)| name).collect();
        if open.is_empty() || Instant::now() > deadline {
            return Ok(open);
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Shows the judge every record.
///
/// # Errors
/// Kafka cannot be read.
pub(crate) fn read(bootstrap: &str, classes: &[ClassId], judge: &mut Judge<'_>) -> Result<()> {
    let consumer = consumer(bootstrap, "read_committed")?;
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for topic in topics(classes) {
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
            left += 1;
        }
    }
    consumer.assign(&assignment)?;
    let known: HashMap<String, Stream> = streams(classes).into_iter().map(|stream| (stream.kafka_topic(), stream)).collect();
    let mut heard = Instant::now();
    while left > 0 {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                let stream = known.get(message.topic()).copied();
                judge.note(&Record {
                    stream,
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().unwrap_or_default(),
                    value: message.payload().unwrap_or_default(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(KafkaError::MessageConsumption(code))) if !is_passing(code) => bail!("reading back: {code}"),
            Some(Err(_)) | None => {
                if heard.elapsed() > PATIENCE {
                    bail!("Kafka has said nothing for {PATIENCE:?}; {left} partitions are not read to their end");
                }
                continue;
            }
        }
        heard = Instant::now();
    }
    Ok(())
}

/// What librdkafka tries again by itself.
fn is_passing(code: rdkafka::types::RDKafkaErrorCode) -> bool {
    use rdkafka::types::RDKafkaErrorCode as C;
    matches!(code, C::BrokerTransportFailure | C::AllBrokersDown | C::OperationTimedOut | C::NotLeaderForPartition | C::LeaderNotAvailable)
}

//! Another configuration while records are on their way.

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use super::*;

/// A cluster of its own.
fn other_cluster() -> (MockCluster<'static, DefaultProducerContext>, String) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(&TOPIC, 1, 1).unwrap();
    let address = cluster.bootstrap_servers();
    (cluster, address)
}

async fn renew(producer: &Producer, kafka: Kafka) -> Result<(), KafkaError> {
    let producer = producer.clone();
    let renewed = tokio::task::spawn_blocking(move || producer.renew(&kafka, &[TOPIC]).map(|renewal| renewal.commit()));
    timeout(SAFETY, renewed).await.unwrap().unwrap()
}

fn values(address: &str, count: usize) -> Vec<u64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("group.id", "test");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let number = |message: BorrowedMessage<'_>| std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
    let mut found: Vec<u64> = (0..count).map(|_| number(consumer.poll(SAFETY).expect("a record").unwrap())).collect();
    found.extend(consumer.poll(Duration::from_millis(300)).map(|message| number(message.unwrap())));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_overtakes_what_the_former_producer_holds() {
    const HELD: u64 = 20;
    let mut bench = Bench::new(|_| {});
    bench.kafka_is_down(true);
    for number in 0..HELD {
        bench.send(number, record(number.to_string())).await;
    }
    renew(&bench.producer, settings(|kafka| kafka.linger_ms = 1)).await.unwrap();
    let (producer, settlements) = (bench.producer.clone(), Arc::clone(&bench.settlements));
    let next = tokio::spawn(async move {
        for number in HELD..2 * HELD {
            producer.send(record(number.to_string()), Receipt::open(number, &settlements)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!next.is_finished(), "the former producer still holds records");
    let again = renew(&bench.producer, settings(|kafka| kafka.linger_ms = 2)).await;
    assert!(matches!(again, Err(KafkaError::Busy { .. })), "{again:?}");
    bench.kafka_is_down(false);
    timeout(SAFETY, next).await.unwrap().unwrap();
    assert!(bench.settled(2 * HELD as usize).await.values().all(|outcome| *outcome == Outcome::Stored));
    assert_eq!(values(&bench.producer.embedded_address().unwrap(), 2 * HELD as usize), (0..2 * HELD).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_is_lost_repeated_or_overtaken() {
    const COUNT: u64 = 6_000;
    let mut bench = Bench::new(|kafka| kafka.max_outstanding_records = 200);
    for number in 0..COUNT {
        if number % 2_000 == 1_000 {
            let changed = settings(|kafka| {
                kafka.max_outstanding_records = 200;
                kafka.linger_ms = number / 1_000;
            });
            while let Err(KafkaError::Busy { .. }) = renew(&bench.producer, changed.clone()).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        bench.send(number, record(number.to_string())).await;
    }
    assert!(bench.settled(COUNT as usize).await.values().all(|outcome| *outcome == Outcome::Stored));
    assert_eq!(values(&bench.producer.embedded_address().unwrap(), COUNT as usize), (0..COUNT).collect::<Vec<_>>());
    assert!(bench.metric("hookgate_records_outstanding 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_to_another_cluster_from_one_moment_on() {
    let ((first, here), (_second, there)) = (other_cluster(), other_cluster());
    let on = |address: &str, patience_ms: u64| {
        settings(|kafka| {
            kafka.bootstrap = Bootstrap::Servers(address.to_owned());
            kafka.drain_timeout_ms = patience_ms;
        })
    };
    let connected = tokio::task::spawn_blocking({
        let kafka = on(&here, 30_000);
        move || Producer::connect(&kafka, &[TOPIC], Metrics::new()).unwrap()
    });
    let producer = connected.await.unwrap();
    let settlements = Settlements::new();
    for number in 0..10 {
        producer.send(record(number.to_string()), Receipt::open(number, &settlements)).await;
    }
    let nowhere = renew(&producer, on("127.0.0.1:1", 30_000)).await;
    assert!(matches!(nowhere, Err(KafkaError::Silent { .. })), "{nowhere:?}");
    // What the first cluster cannot answer any more is unknown after a while, and holds up nobody.
    first.broker_down(-1).unwrap();
    for number in 10..20 {
        producer.send(record(number.to_string()), Receipt::open(number, &settlements)).await;
    }
    renew(&producer, on(&there, 300)).await.unwrap();
    for number in 20..30 {
        timeout(SAFETY, producer.send(record(number.to_string()), Receipt::open(number, &settlements))).await.unwrap();
    }
    let mut settled = Vec::new();
    while settled.len() < 30 {
        timeout(SAFETY, settlements.wait()).await.unwrap();
        settlements.take(&mut settled);
    }
    for Settlement { number, outcome } in &settled {
        let is_lost = matches!(outcome, Outcome::Unknown(_));
        assert!(if (10..20).contains(number) { is_lost } else { *outcome == Outcome::Stored }, "{number}: {outcome:?}");
    }
    assert_eq!(values(&there, 10), (20..30).collect::<Vec<_>>());
    first.broker_up(-1).unwrap();
    assert_eq!(values(&here, 10), (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_changes_nothing_for_librdkafka_keeps_the_producer() {
    let bench = Bench::new(|_| {});
    let before = bench.producer.inner.native.load().generation;
    renew(&bench.producer, settings(|kafka| kafka.drain_timeout_ms = 5)).await.unwrap();
    assert_eq!(bench.producer.inner.native.load().generation, before);
    renew(&bench.producer, settings(|kafka| kafka.linger_ms = 7)).await.unwrap();
    assert!(bench.producer.inner.native.load().generation > before);
}

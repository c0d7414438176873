//! Each wall held against a guest that runs into it, and what the metrics page says then.

use std::time::Instant;

use super::*;
use crate::metrics::ReasonLabel;

async fn engine(instances: usize, memory_bytes: usize) -> Engine {
    Engine::new(&Runtime { instances, memory_bytes, ..Runtime::default() }).unwrap()
}

impl Loaded {
    fn recycled(&self, reason: &str) -> u64 {
        let label = ReasonLabel { name: self.guest.name().to_owned(), reason: reason.to_owned() };
        self.metrics.guest_instances_recycled.get_or_create(&label).get()
    }

    /// Instances that exist, those of them that no call uses, and their memory.
    fn alive(&self) -> (i64, i64, i64) {
        let (name, metrics) = (self.guest.name().into(), &self.metrics);
        let [instances, idle, memory_bytes] = [&metrics.guest_instances, &metrics.guest_instances_idle, &metrics.guest_memory_bytes]
            .map(|family| family.get_or_create(&name).get());
        (instances, idle, memory_bytes)
    }

    fn count(&self, family: impl FnOnce(&Metrics) -> &crate::metrics::PerName) -> u64 {
        family(&self.metrics).get_or_create(&self.guest.name().into()).get()
    }
}

async fn loaded(engine: &Engine, name: &str, text: &str) -> Loaded {
    load(engine, name, text).await.unwrap_or_else(|errors| panic!("{name}: {errors:?}"))
}

fn trial(loaded: Result<Loaded, Vec<LoadError>>) -> Failure {
    match loaded.err().as_deref() {
        Some([LoadError::Trial(failure)]) => failure.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_instance_is_replaced_when_it_has_had_enough() {
    let engine = engine(10, 1 << 30).await;
    for (limits, calls, reason, replaced) in [
        ("recycle_after_calls = 2", 5, "calls", 2),
        ("recycle_after_calls = 0", 5, "calls", 0),
        ("recycle_at_bytes = 65536", 3, "memory", 3),
        ("", 3, "memory", 0),
    ] {
        let guest = loaded(&engine, "identity", &format!("limits = {{ {limits} }}")).await;
        for _ in 0..calls {
            assert_eq!(guest.publish().await, Ok(PublishVerdict::Pass));
        }
        assert_eq!(guest.recycled(reason), replaced, "{limits}");
        let is_there = i64::from(reason == "calls" || replaced == 0);
        let (instances, idle, memory_bytes) = guest.alive();
        assert_eq!((instances, idle, memory_bytes > 0), (is_there, is_there, is_there > 0), "{limits}");
        let (metrics, page) = (Arc::clone(&guest.metrics), "hookgate_guest_instances{name=\"identity\"} 0");
        drop(guest);
        assert!(metrics.render().contains(page), "{limits}: {}", metrics.render());
    }
    let trapping = hostile(&engine, "trap", "").await.unwrap();
    assert!(trapping.publish().await.is_err());
    assert_eq!((trapping.recycled("failure"), trapping.alive()), (1, (0, 0, 0)));
}

#[tokio::test]
async fn an_instance_per_event_leaves_nothing() {
    let engine = engine(10, 1 << 30).await;
    let guest = loaded(&engine, "identity", "isolation = \"per-event\"").await;
    assert_eq!(guest.alive(), (0, 0, 0), "nor does the trial");
    for _ in 0..3 {
        assert_eq!(guest.publish().await, Ok(PublishVerdict::Pass));
        assert_eq!(guest.alive(), (0, 0, 0));
    }
}

#[tokio::test]
async fn an_idle_instance_makes_way() {
    let engine = engine(1, 1 << 30).await;
    let (one, two) = (loaded(&engine, "identity", "").await, loaded(&engine, "low_battery", "grants = [\"settings\"]").await);
    assert_eq!((one.alive().0, two.alive().0), (1, 0), "the trial of a second guest has room of its own");
    for _ in 0..3 {
        assert!(two.publish().await.is_ok());
        assert_eq!((one.alive().0, two.alive().0), (0, 1));
        assert!(one.publish().await.is_ok());
        assert_eq!((one.alive().0, two.alive().0), (1, 0));
    }
}

#[tokio::test]
async fn a_full_house_is_a_failure() {
    let engine = engine(1, 1 << 30).await;
    let blocking = hostile(&engine, "block", "deadline_ms = 60000, instance_wait_ms = 0").await.unwrap();
    let guest = loaded(&engine, "identity", "limits = { instance_wait_ms = 1 }").await;
    let message = Arc::new(message());
    let client = client();
    let mut busy = Box::pin(blocking.guest.publish(ASKED, &client, &message));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut busy).await.is_err());
    assert_eq!(guest.publish().await, Err(Failure::NoRoom { waited_ms: 1 }));
    drop(busy);
    assert_eq!(guest.publish().await, Ok(PublishVerdict::Pass));
}

#[tokio::test]
async fn memory_is_bounded_for_all_together() {
    let small = engine(10, 1 << 20).await;
    assert_eq!(trial(load(&small, "identity", "").await), Failure::NoMemory { limit_bytes: 1 << 20 });
    let engine = engine(10, 16 << 20).await;
    for _ in 0..3 {
        let guest = hostile(&engine, "allocate", "memory_bytes = 1000000000, deadline_ms = 60000").await.unwrap();
        assert_eq!(guest.publish().await, Err(Failure::NoMemory { limit_bytes: 16 << 20 }));
        assert_eq!(guest.alive(), (0, 0, 0), "what it took is back");
    }
}

#[tokio::test]
async fn tables_are_bounded() {
    let engine = engine(10, 1 << 30).await;
    let failure = trial(load(&engine, "identity", "limits = { table_elements = 1 }").await);
    assert_eq!(failure, Failure::TableTooLarge { limit_elements: 1 });
}

#[tokio::test]
async fn calls_into_the_host_are_counted() {
    let engine = engine(10, 1 << 30).await;
    for (mode, host_calls, expected) in [
        ("log-flood", 9_999, Err(Failure::TooManyHostCalls { limit: 9_999 })),
        ("log-flood", 10_000, Ok(PublishVerdict::Pass)),
        ("stderr-flood", 1_000, Err(Failure::TooManyHostCalls { limit: 1_000 })),
        ("pass", 0, Ok(PublishVerdict::Pass)),
    ] {
        let guest = hostile(&engine, mode, &format!("host_calls = {host_calls}, deadline_ms = 60000")).await.unwrap();
        assert_eq!(guest.publish().await, expected, "{mode} {host_calls}");
    }
}

#[tokio::test]
async fn a_guest_over_its_share_is_throttled() {
    let engine = engine(10, 1 << 30).await;
    let limits = "cpu_share = 0.001, instance_wait_ms = 1";
    let guest = hostile(&engine, "pass", limits).await.unwrap();
    assert_eq!(guest.publish().await, Ok(PublishVerdict::Pass));
    assert!(guest.count(|metrics| &metrics.guest_cpu_nanoseconds) > 0);
    let hour = Duration::from_secs(3_600);
    let share = engine.shares().of("hostile", 0.001, Instant::now());
    share.charge(hour, Instant::now());
    assert_eq!(guest.publish().await, Err(Failure::Throttled { waited_ms: 1 }));
    assert_eq!(guest.count(|metrics| &metrics.guest_throttled), 1);
    let again = hostile(&engine, "pass", limits).await.unwrap();
    assert_eq!(again.publish().await, Err(Failure::Throttled { waited_ms: 1 }), "a new version pays for the old one");
    let other = loaded(&engine, "identity", &format!("limits = {{ {limits} }}")).await;
    assert_eq!(other.publish().await, Ok(PublishVerdict::Pass), "and others do not");
}

/// What it computes is on its account, in whichever lane.
#[tokio::test]
async fn processor_time_is_charged() {
    let engine = engine(10, 1 << 30).await;
    for deadline_ms in [1, 50] {
        let guest = hostile(&engine, "loop", &format!("deadline_ms = {deadline_ms}")).await.unwrap();
        assert_eq!(guest.publish().await, Err(Failure::Deadline { limit_ms: deadline_ms }));
        let used_ns = guest.count(|metrics| &metrics.guest_cpu_nanoseconds);
        assert!(used_ns >= 1_000_000 * deadline_ms / 4, "{used_ns}");
    }
}

#[tokio::test]
async fn those_who_wait_for_an_instance_are_counted() {
    let engine = engine(10, 1 << 30).await;
    let guest =
        hostile(&engine, "sleep", "instances = 1, deadline_ms = 60000, instance_wait_ms = 60000, host_calls = 1000000000").await.unwrap();
    let (first, second) = tokio::join!(guest.publish(), guest.publish());
    assert_eq!((first, second), (Ok(PublishVerdict::Pass), Ok(PublishVerdict::Pass)));
    assert_eq!((guest.count(|metrics| &metrics.guest_waits), guest.alive().0), (1, 1));
}

/// The one thread is not kept from its other tasks for longer than a few slices, however many calls loop at once.
#[tokio::test(flavor = "current_thread")]
async fn loops_go_on_beside_everybody_else() {
    let engine = engine(100, 1 << 30).await;
    let looping = Arc::new(hostile(&engine, "loop", "deadline_ms = 100, instances = 4").await.unwrap());
    let passing = loaded(&engine, "identity", "").await;
    for round in 1..=3_u64 {
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let looping = Arc::clone(&looping);
                tokio::spawn(async move { looping.publish().await })
            })
            .collect();
        let mut passed = 0;
        while calls.iter().any(|call| !call.is_finished()) {
            assert_eq!(passing.publish().await, Ok(PublishVerdict::Pass));
            passed += 1;
            tokio::task::yield_now().await;
        }
        assert!(passed > 50, "{passed} calls beside four loops");
        for call in calls {
            assert_eq!(call.await.unwrap(), Err(Failure::Deadline { limit_ms: 100 }));
        }
        assert_eq!(looping.count(|metrics| &metrics.guest_overruns), 4 * round);
    }
    assert_eq!(passing.count(|metrics| &metrics.guest_overruns), 0);
}

//! What it costs to find out whether a topic matches: one filter, and all filters of a configuration's routes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hookgate::topic::{self, TopicFilter};

fn one_filter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic matches one filter");
    let long = "eu/de/berlin/site-17/building-3/floor-2/room-12/device-99/sensor/temperature";
    for (name, filter, topic) in [
        ("exact", "devices/10083618796833171/command", "devices/10083618796833171/command"),
        ("single-level wildcard", "devices/+/command", "devices/10083618796833171/command"),
        ("multi-level wildcard", "devices/#", "devices/10083618796833171/command"),
        ("no match, seen at once", "sensors/+/command", "devices/10083618796833171/command"),
        ("no match, seen at the end", "devices/+/state", "devices/10083618796833171/command"),
        ("ten levels", "eu/+/+/+/+/+/+/+/sensor/temperature", long),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| topic::matches(black_box(filter), black_box(topic))));
    }
    group.finish();
}

fn filters_of_routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic against the filters of routes");
    for routes in [1_u32, 10, 100] {
        // The last one matches, so that all are asked.
        let texts = (1..routes).map(|route| format!("devices/+/kind-{route}")).chain(["devices/+/command".to_owned()]);
        let filters: Vec<TopicFilter> = texts.filter_map(|text| TopicFilter::parse(&text).ok()).collect();
        group.throughput(Throughput::Elements(routes.into()));
        group.bench_function(routes.to_string(), |bencher| {
            bencher.iter(|| filters.iter().filter(|filter| filter.matches(black_box("devices/10083618796833171/command"))).count());
        });
    }
    group.finish();
}

criterion_group!(benches, one_filter, filters_of_routes);
criterion_main!(benches);

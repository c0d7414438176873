//! Every seed through its target, without libFuzzer and without instrumentation: on stable, in CI.

use std::{fs, path::Path};

use hookgate_fuzz::{guest, source::mqtt, targets};

#[test]
fn every_seed_passes() {
    let all: [(&str, fn(&[u8])); 8] = [
        ("codec_decode", mqtt::fuzz_codec_decode::run),
        ("config", targets::config::run),
        ("proxy", mqtt::listener::fuzz_proxy::run),
        ("session", mqtt::fuzz_session::run),
        ("store", targets::store::run),
        ("topic_matching", targets::topic_matching::run),
        ("verdict", guest::fuzz_verdict::run),
        ("websocket", mqtt::listener::fuzz_websocket::run),
    ];
    for (target, run) in all {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        let seeds = fs::read_dir(&folder).expect("each target has seeds");
        let mut count = 0;
        for seed in seeds {
            let path = seed.expect("readable").path();
            println!("{}", path.display());
            run(&fs::read(path).expect("readable"));
            count += 1;
        }
        assert!(count > 0, "{target} has no seeds");
    }
}

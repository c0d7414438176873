#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz::source::mqtt::listener::fuzz_proxy::run(input));

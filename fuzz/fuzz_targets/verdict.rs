#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz::guest::fuzz_verdict::run(input));

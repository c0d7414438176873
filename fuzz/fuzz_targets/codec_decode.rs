#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz::source::mqtt::fuzz_codec_decode::run(input));

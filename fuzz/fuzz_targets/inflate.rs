#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| saywhy_fuzz::inflate(input));

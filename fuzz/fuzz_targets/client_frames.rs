#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| saywhy_fuzz::client_frames(input));

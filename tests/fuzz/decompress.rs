#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vespid::transport::compress::fuzz::decompress(input));

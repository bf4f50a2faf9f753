//! See `properties::compression`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::compression::check(bytes));

//! See `properties::multipart`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::multipart::check(bytes));

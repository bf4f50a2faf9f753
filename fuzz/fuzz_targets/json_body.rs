//! See `properties::json_body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::json_body::check(bytes));

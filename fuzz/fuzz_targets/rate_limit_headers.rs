//! See `properties::rate_limit_headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::rate_limit_headers::check(bytes));

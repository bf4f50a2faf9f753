//! See `properties::body_fields`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::body_fields::check(bytes));

//! See `properties::key`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::key::check(bytes));

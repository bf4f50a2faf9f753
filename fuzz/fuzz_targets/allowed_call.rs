//! See `properties::allowed_call`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::allowed_call::check(bytes));

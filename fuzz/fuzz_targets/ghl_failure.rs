//! See `properties::ghl_failure`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::ghl_failure::check(bytes));

//! See `properties::browser_key`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::browser_key::check(bytes));

//! See `properties::base_url`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::base_url::check(bytes));

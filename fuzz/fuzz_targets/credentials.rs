//! See `properties::credentials`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::credentials::check(bytes));

//! See `properties::user_context`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::user_context::check(bytes));

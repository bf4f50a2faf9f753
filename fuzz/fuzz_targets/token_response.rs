//! See `properties::token_response`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::token_response::check(bytes));

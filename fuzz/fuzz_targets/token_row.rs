//! See `properties::token_row`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::token_row::check(bytes));

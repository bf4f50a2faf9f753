//! See `properties::store_text`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::store_text::check(bytes));

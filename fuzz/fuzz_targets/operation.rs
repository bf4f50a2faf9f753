//! See `properties::operation`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::operation::check(bytes));

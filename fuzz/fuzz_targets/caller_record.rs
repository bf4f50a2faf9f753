//! See `properties::caller_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::caller_record::check(bytes));

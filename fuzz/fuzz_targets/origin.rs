//! See `properties::origin`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::origin::check(bytes));

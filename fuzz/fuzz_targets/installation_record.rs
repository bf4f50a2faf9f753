//! See `properties::installation_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::installation_record::check(bytes));

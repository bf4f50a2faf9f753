//! See `properties::client_address`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::client_address::check(bytes));

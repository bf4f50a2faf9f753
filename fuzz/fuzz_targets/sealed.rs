//! See `properties::sealed`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::sealed::check(bytes));

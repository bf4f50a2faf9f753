//! See `properties::settings_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::settings_file::check(bytes));

//! See `properties::journal_entry`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::journal_entry::check(bytes));

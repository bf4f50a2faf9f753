//! Properties of every parser of bytes from outside. They hold for all bytes.
//!
//! Each module has one function `check` that panics if a property is violated. `tests/corpus.rs` runs them over the
//! files of `fuzz/corpus`, `tests/generated.rs` over changed files, and the targets of `fuzz/` under libFuzzer.

#![warn(missing_docs)]

pub mod allowed_call;
pub mod base_url;
pub mod body_fields;
pub mod browser_key;
pub mod caller_record;
pub mod client_address;
pub mod compression;
pub mod credentials;
pub mod ghl_failure;
mod input;
pub mod installation_record;
pub mod journal_entry;
pub mod json_body;
pub mod key;
pub mod multipart;
pub mod operation;
pub mod origin;
pub mod path;
pub mod query;
pub mod rate_limit_headers;
pub mod sealed;
pub mod selector;
pub mod settings;
pub mod settings_file;
pub mod store_text;
pub mod token_response;
pub mod token_row;
pub mod user_context;
pub mod webhook;

/// A property of one parser.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of the module, of the corpus and of the fuzz target.
    pub name: &'static str,
    /// Panics if these bytes violate a property.
    pub check: fn(&[u8]),
}

/// Hands the names of all targets, in alphabetical order, to a macro.
#[macro_export]
macro_rules! for_all_targets {
    ($do:ident) => {
        $do![
            allowed_call,
            base_url,
            browser_key,
            body_fields,
            caller_record,
            client_address,
            compression,
            credentials,
            ghl_failure,
            installation_record,
            journal_entry,
            json_body,
            key,
            multipart,
            operation,
            origin,
            path,
            query,
            rate_limit_headers,
            sealed,
            selector,
            settings,
            settings_file,
            store_text,
            token_response,
            user_context,
            token_row,
            webhook,
        ];
    };
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// All targets, in alphabetical order.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), check: $name::check }),*];
    };
}

for_all_targets!(targets);

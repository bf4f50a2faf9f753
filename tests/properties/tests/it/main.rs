//! Runs every property over the files of `fuzz/corpus`, and over changes of them.

mod corpus;
mod generated;
mod mutation;

use properties::{TARGETS, Target};

fn target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("{name} is not in properties::TARGETS"))
}

/// Two tests for each target, and one that compares this list with `properties::TARGETS`.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn holds_for_the_corpus() {
                crate::corpus::run(crate::target(stringify!($name)));
            }

            #[test]
            fn holds_for_changed_files() {
                crate::generated::run(crate::target(stringify!($name)));
            }
        })*

        #[test]
        fn every_target_is_tested() {
            let tested = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(tested));
        }
    };
}

tests![
    allowed_call,
    base_url,
    caller_record,
    client_address,
    compression,
    credentials,
    ghl_failure,
    installation_record,
    journal_entry,
    json_body,
    key,
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
    webhook,
];

//! Runs every property over the files of `fuzz/corpus`, and over changes of them.

mod corpus;
mod generated;
mod mutation;

use properties::{TARGETS, Target};

fn target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("{name} is not in properties::TARGETS"))
}

/// Two tests for each target.
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
    };
}

properties::for_all_targets!(tests);

//! The files of the corpora, as they are.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use properties::{TARGETS, Target};

/// A corpus is read by people and kept in the repository.
const MAX_FILE_BYTES: usize = 16 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The names of the entries of a directory, in alphabetical order, without the end that all have.
fn names(directory: &Path, end: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|reason| panic!("{}: {reason}", directory.display()));
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name in UTF-8"));
    names
        .map(|name| name.strip_suffix(end).unwrap_or(&name).to_owned())
        .collect()
}

/// The names and bytes of a target's corpus.
pub(crate) fn files(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = fuzz().join("corpus").join(target.name);
    let names = names(&directory, "").into_iter();
    names
        .map(|name| {
            let bytes = fs::read(directory.join(&name)).expect("a file");
            (name, bytes)
        })
        .collect()
}

pub(crate) fn run(target: &Target) {
    let files = files(target);
    assert!(files.len() >= 3, "{} files", files.len());
    for (name, bytes) in files {
        assert!(
            bytes.len() <= MAX_FILE_BYTES,
            "{name}: {} bytes",
            bytes.len()
        );
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(&bytes)));
        assert!(
            outcome.is_ok(),
            "fuzz/corpus/{}/{name} violates a property, see above",
            target.name
        );
    }
    (target.check)(b"");
}

#[test]
fn every_target_has_a_corpus_a_fuzz_target_and_nothing_else_has() {
    let expected: BTreeSet<String> = TARGETS.iter().map(|it| it.name.to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus"), ""), expected);
    assert_eq!(names(&fuzz().join("fuzz_targets"), ".rs"), expected);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in &expected {
        let path = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&path), "fuzz/Cargo.toml lacks {name}");
        let source = fuzz().join("fuzz_targets").join(format!("{name}.rs"));
        let source = fs::read_to_string(source).expect("a fuzz target");
        let call = format!("properties::{name}::check(bytes)");
        assert!(source.contains(&call), "{name}.rs runs another property");
    }
}

//! `evergreen --version` names the commit, also in a build without the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::scratch::Scratch;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The build script of `cli`, as a program.
fn build_script(directory: &Path) -> PathBuf {
    let program = directory.join("build-script");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/build.rs");
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "-o"])
        .args([&program, Path::new(source)])
        .env("CARGO_PKG_VERSION", "1.2.3")
        .status();
    assert!(compiled.expect("rustc").success(), "{source}");
    program
}

/// The version that the build script finds in a directory.
fn version(program: &Path, directory: &Path, given: Option<&str>) -> String {
    let mut script = Command::new(program);
    script
        .current_dir(directory)
        .env_remove("EVERGREEN_COMMIT")
        // A folder above may be a repository.
        .env(
            "GIT_CEILING_DIRECTORIES",
            directory.parent().unwrap_or(directory),
        );
    if let Some(given) = given {
        script.env("EVERGREEN_COMMIT", given);
    }
    let output = script.output().expect("the build script");
    let output = String::from_utf8(output.stdout).expect("UTF-8");
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("cargo::rustc-env=BUILD_VERSION="));
    line.expect("a version").to_owned()
}

#[test]
fn commit_is_found_without_a_repository() {
    let scratch = Scratch::new();
    let program = build_script(scratch.path());
    let sources = scratch.path().join("sources");
    fs::create_dir(&sources).expect("a directory");
    let version = |given| version(&program, &sources, given);

    assert_eq!(version(None), "1.2.3 (unknown)");
    // Somebody else's repository has another commit.
    for args in [
        &["init", "--quiet"][..],
        &["commit", "--quiet", "--allow-empty", "-m", "other"],
    ] {
        let git = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
            .args(args)
            .current_dir(&sources)
            .status();
        assert!(git.expect("git").success(), "git {args:?}");
    }
    assert_eq!(version(None), "1.2.3 (unknown)");
    fs::write(sources.join("COMMIT"), "$Format:%H$\n").expect("a file");
    assert_eq!(version(None), "1.2.3 (unknown)");
    fs::write(sources.join("COMMIT"), format!("{COMMIT}\n")).expect("a file");
    assert_eq!(version(None), "1.2.3 (0123456789ab)");
    let note = format!("{{\n  \"git\": {{\n    \"sha1\": \"fedcba98{COMMIT}\"\n  }}\n}}");
    fs::write(sources.join(".cargo_vcs_info.json"), note).expect("a file");
    assert_eq!(version(None), "1.2.3 (fedcba980123)");
    assert_eq!(version(Some("mine")), "1.2.3 (mine)");
}

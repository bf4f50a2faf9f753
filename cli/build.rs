//! Passes the version with the commit to the compiler, as `BUILD_VERSION`: `0.1.0 (0123456789ab)`.
//!
//! The commit is the first of these that there is: the environment variable `EVERGREEN_COMMIT`, the note that cargo
//! adds to a published crate, the file `COMMIT`, into which `git archive` writes it, and git's. Otherwise it is
//! `unknown`.

use std::path::Path;
use std::process::Command;

/// As many digits as `git rev-parse --short=12` prints.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=EVERGREEN_COMMIT");
    let given = std::env::var("EVERGREEN_COMMIT").unwrap_or_default();
    let commit = Some(given)
        .filter(|given| !given.is_empty())
        .or_else(|| of_published_crate(&read(".cargo_vcs_info.json")?))
        .or_else(|| digits(read("COMMIT")?.trim()))
        .or_else(of_repository)
        .unwrap_or_else(|| "unknown".to_owned());
    let version = env!("CARGO_PKG_VERSION");
    println!("cargo::rustc-env=BUILD_VERSION={version} ({commit})");
}

/// A file of this crate, if it exists. Cargo counts a missing file as changed, so only existing files are watched.
fn read(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(name).ok()?;
    println!("cargo::rerun-if-changed={name}");
    Some(text)
}

/// The commit in cargo's note, `{"git":{"sha1":"…"},…}`.
fn of_published_crate(note: &str) -> Option<String> {
    let (_, rest) = note.split_once("\"sha1\"")?;
    digits(rest.split('"').nth(1)?)
}

/// The first digits of a commit. `None` if it is none, as in a `COMMIT` that did not come through `git archive`.
fn digits(commit: &str) -> Option<String> {
    let is_commit = commit.len() >= DIGITS && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| commit[..DIGITS].to_owned())
}

/// The commit of the repository that has this crate. Sources may lie in a folder of another one.
fn of_repository() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    watch_head();
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// Runs this script again when HEAD changes, or the ref that it names.
///
/// A ref without a file of its own is packed. Then HEAD's log is watched, which grows with every commit.
fn watch_head() {
    watch("HEAD");
    if let Some(name) = git(&["symbolic-ref", "--quiet", "HEAD"])
        && !watch(&name)
    {
        watch("packed-refs");
        watch("logs/HEAD");
    }
}

/// Watches a file of the repository. Returns whether it exists.
fn watch(name: &str) -> bool {
    let path = git(&["rev-parse", "--git-path", name]);
    let path = path.filter(|path| Path::new(path).exists());
    if let Some(path) = &path {
        println!("cargo::rerun-if-changed={path}");
    }
    path.is_some()
}

/// The output of a git command. `None` if it fails, or if there is no git.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

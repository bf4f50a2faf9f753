//! Passes the version with the commit to the compiler, as `BUILD_VERSION`: `0.1.0 (0123456789ab)`.
//!
//! The commit comes from the environment variable `EVERGREEN_COMMIT`, for builds without a repository, then
//! from git. Otherwise it is `unknown`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=EVERGREEN_COMMIT");
    watch_head();
    let given = std::env::var("EVERGREEN_COMMIT").unwrap_or_default();
    let commit = Some(given)
        .filter(|given| !given.is_empty())
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let version = env!("CARGO_PKG_VERSION");
    println!("cargo::rustc-env=BUILD_VERSION={version} ({commit})");
}

/// Runs this script again when HEAD changes, or the ref that it names.
///
/// Cargo counts a missing file as changed, so only existing files are watched. A ref without a file of its
/// own is packed. Then HEAD's log is watched, which grows with every commit.
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

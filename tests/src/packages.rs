//! Directories with programs for Node.js or Python, and the packages that their lock files name.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::program::Start;
use crate::scratch::Scratch;

/// The registry and the disk may be slow.
const INSTALLING: Duration = Duration::from_secs(300);

/// A temporary directory with copies of these files. `directory` is relative to the repository.
///
/// # Panics
/// If a file cannot be copied.
#[must_use]
pub fn copies(directory: &str, names: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    for name in names {
        let from = repository().join(directory).join(name);
        let name = from.file_name().expect("a file");
        fs::copy(&from, scratch.path().join(name)).expect("a copy");
    }
    scratch
}

/// A temporary directory with a copy of this one, without what installers leave there. `directory` is relative to the
/// repository.
///
/// # Panics
/// If a file cannot be copied.
#[must_use]
pub fn copy(directory: &str) -> Scratch {
    let scratch = Scratch::new();
    copy_all(&repository().join(directory), scratch.path()).expect("a copy");
    scratch
}

fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the repository")
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name();
        if path.is_file() {
            fs::copy(&path, &target)?;
        } else if name != "node_modules" && name != "__pycache__" {
            fs::create_dir(&target)?;
            copy_all(&path, &target)?;
        }
    }
    Ok(())
}

/// Installs the packages of `package-lock.json`, without their scripts. Needs `npm`.
///
/// # Panics
/// If that fails.
pub async fn install_node_packages(directory: &Scratch) {
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    let install = Start::new("npm").args(&npm);
    run_installer(install.args(&["--prefix", &directory.join("")])).await;
}

/// Installs the packages of a file of requirements with hashes into a virtual environment. Returns its Python, without
/// arguments. Needs `python3` with `venv`.
///
/// # Panics
/// If that fails.
pub async fn install_python_packages(directory: &Scratch, requirements: &str) -> Start {
    let environment = directory.join("venv");
    run_installer(Start::new("python3").args(&["-m", "venv", &environment])).await;
    let python = Start::new(directory.join("venv/bin/python"));
    let requirements = directory.join(requirements);
    // Only wheels, because a source package runs code while it is built.
    let locked = ["--only-binary", ":all:", "--require-hashes"];
    let locked = [&locked[..], &["--requirement", &requirements]].concat();
    pip_install(&python, &locked).await;
    python
}

/// Runs `pip install` with these arguments.
///
/// # Panics
/// If that fails.
pub async fn pip_install(python: &Start, args: &[&str]) {
    let pip = ["-m", "pip", "install", "--quiet", "--no-compile"];
    run_installer(python.clone().args(&pip).args(args)).await;
}

/// Runs an installer with this machine's settings for the registries of npm and pip.
async fn run_installer(mut installer: Start) {
    for (name, value) in std::env::vars() {
        let lower = name.to_ascii_lowercase();
        let is_setting = ["npm_config_", "pip_"]
            .iter()
            .any(|prefix| lower.starts_with(prefix));
        let is_other = matches!(name.as_str(), "HOME" | "NODE_EXTRA_CA_CERTS");
        if is_setting || is_other || lower.ends_with("_proxy") {
            installer = installer.env(&name, value);
        }
    }
    let installed = installer.run_within(INSTALLING).await;
    assert!(installed.status.success(), "{installed:?}");
}

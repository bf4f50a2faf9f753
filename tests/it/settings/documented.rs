//! The settings that are read, known and documented are the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_setting(word: &str) -> bool {
    if word == "PORT" {
        return true;
    }
    let is_spelled = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let prefixes = ["EVERGREEN_", "GHL_", "OTEL_"];
    prefixes.iter().any(|prefix| {
        word.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty())
    }) && word.chars().all(is_spelled)
        && !word.ends_with('_')
}

/// The string literals of a Rust source that are names of settings.
fn literals(text: &str) -> BTreeSet<String> {
    let pieces = text.split('"').filter(|piece| is_setting(piece));
    pieces.map(str::to_owned).collect()
}

/// `cli/src/settings.rs`, split into the list of known settings and the rest.
fn known_and_rest() -> (BTreeSet<String>, String) {
    let text = fs::read_to_string(root().join("cli/src/settings.rs")).unwrap();
    let (before, list) = text.split_once("KNOWN: &[&str] = &[").unwrap();
    let (list, after) = list.split_once("];").unwrap();
    (literals(list), [before, after].concat())
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            rust_files(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// All settings that a program reads.
fn read() -> BTreeSet<String> {
    let (_, rest) = known_and_rest();
    let mut files = Vec::new();
    for part in ["broker", "cli", "gateway", "sandbox", "service", "store"] {
        rust_files(&root().join(part).join("src"), &mut files);
    }
    files.retain(|path| {
        !path.ends_with("cli/src/settings.rs") && !path.ends_with("cli/src/settings/spelling.rs")
    });
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    let mut read = BTreeSet::new();
    for text in texts.chain([rest]) {
        let program = text.split("#[cfg(test)]\nmod tests {").next();
        read.extend(literals(program.unwrap_or_default()));
    }
    read
}

fn ours(settings: &BTreeSet<String>) -> BTreeSet<&str> {
    let names = settings.iter().map(String::as_str);
    names
        .filter(|name| name.starts_with("EVERGREEN_"))
        .collect()
}

#[test]
fn known_settings_are_exactly_the_settings_read() {
    let (known, _) = known_and_rest();
    let read = read();
    assert!(known.len() > 30, "{known:?}");
    assert_eq!(ours(&read), ours(&known));
}

#[test]
fn known_settings_for_ghl_are_exactly_those_read() {
    let text = fs::read_to_string(root().join("cli/src/settings/spelling.rs")).unwrap();
    let (_, list) = text.split_once("GHL: &[&str] = &[").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let mut read = read();
    read.retain(|name| name.starts_with("GHL_"));
    assert_eq!(read, literals(list));
}

#[test]
fn settings_md_lists_exactly_the_settings_read() {
    let page = root().join("docs/settings.md");
    let page = fs::read_to_string(page).expect("docs/settings.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut documented = BTreeSet::new();
    for row in rows {
        let (name, _) = row.split_once('`').expect("a setting between backticks");
        let is_new = documented.insert(name.to_owned());
        assert!(is_new, "{name} has two rows");
    }
    let read = read();
    let missing: Vec<_> = read.difference(&documented).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    let unread: Vec<_> = documented.difference(&read).collect();
    assert!(unread.is_empty(), "not read by any program: {unread:?}");
}

#[test]
fn deployment_files_use_only_known_settings() {
    let read = read();
    let mut set = BTreeSet::new();
    for file in [
        "compose.yaml",
        "Dockerfile",
        "helm/evergreen/templates/_helpers.tpl",
        "helm/evergreen/templates/broker.yaml",
        "helm/evergreen/templates/first-key.yaml",
        "helm/evergreen/templates/gateway.yaml",
        "kubernetes/broker.yaml",
        "kubernetes/gateway.yaml",
        "sandbox.env",
        "systemd/evergreen-broker.service",
        "systemd/evergreen-gateway.service",
        "systemd/evergreen.service",
        "up/compose.yaml",
        "up/kubernetes.yaml",
    ] {
        let text = fs::read_to_string(root().join("deploy").join(file)).expect(file);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        set.extend(words.filter(|word| is_setting(word)).map(str::to_owned));
    }
    // HAProxy's settings, where compose publishes its port, those of the image's build, and of Caddy.
    let others = [
        "EVERGREEN_PUBLISH",
        "EVERGREEN_COMMIT",
        "EVERGREEN_CREATED",
        "EVERGREEN_FEATURES",
        "EVERGREEN_SOURCE",
        "EVERGREEN_VERSION",
        "EVERGREEN_HOST",
        "EVERGREEN_UPSTREAM",
    ];
    set.retain(|name| !name.starts_with("EVERGREEN_LB_") && !others.contains(&name.as_str()));
    assert!(set.contains("GHL_CLIENT_SECRET_FILE"), "{set:?}");
    let unknown = set.iter().filter(|name| {
        let of_a_secret = name.strip_suffix("_FILE");
        !read.contains(*name) && !of_a_secret.is_some_and(|secret| read.contains(secret))
    });
    let unknown: Vec<_> = unknown.collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn list_of_the_command_line_is_that_of_settings_md() {
    let made = std::process::Command::new(root().join("tools/settings-list")).output();
    let made = made.expect("tools/settings-list");
    assert!(made.status.success(), "{made:?}");
    let list = fs::read(root().join("cli/src/settings_list.txt")).unwrap();
    assert!(
        made.stdout == list,
        "docs/settings.md has changed: tools/settings-list > cli/src/settings_list.txt"
    );
}

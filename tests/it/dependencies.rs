//! `docs/dependencies.md` names each direct dependency, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// The crates that are not in a program.
const NOT_DEPLOYED: [&str; 4] = ["evergreen-tools", "properties", "simulation", "tests"];

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

/// The names in the first column of the table below a heading.
fn listed(heading: &str) -> BTreeSet<String> {
    let page = read("docs/dependencies.md");
    let (_, section) = page
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let names = rows.iter().filter_map(|row| row.split('`').nth(1));
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.is_sorted(), "{heading} is in alphabetical order");
    let unique: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(
        unique.len(),
        names.len(),
        "a row of {heading} is there twice"
    );
    for row in rows {
        let reason = row.split('|').nth(2).unwrap_or_default().trim();
        assert!(reason.len() > 5, "no reason: {row}");
    }
    unique
}

fn packages(manifest: &str) -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(format!("{}/../{manifest}", env!("CARGO_MANIFEST_DIR")))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    metadata.packages
}

#[test]
fn dependencies_md_lists_exactly_the_direct_dependencies() {
    let packages = [packages("Cargo.toml"), packages("fuzz/Cargo.toml")].concat();
    let ours: BTreeSet<&str> = packages.iter().map(|it| it.name.as_str()).collect();
    let (mut deployed, mut others) = (BTreeSet::new(), BTreeSet::new());
    for package in &packages {
        let is_deployed = !NOT_DEPLOYED.contains(&package.name.as_str());
        let is_deployed = is_deployed && package.name.as_str() != "fuzz";
        for dependency in &package.dependencies {
            if ours.contains(dependency.name.as_str()) {
                continue;
            }
            let is_development = dependency.kind == DependencyKind::Development;
            let names = match is_deployed && !is_development {
                true => &mut deployed,
                false => &mut others,
            };
            names.insert(dependency.name.clone());
        }
    }
    assert_eq!(listed("In the programs"), deployed);
    let only_others: BTreeSet<String> = others.difference(&deployed).cloned().collect();
    assert_eq!(listed("In tests and tools only"), only_others);
}

/// A build of the image fails if cargo misses a member of the workspace.
#[test]
fn image_is_built_from_all_crates_of_the_workspace() {
    let ignored = read("deploy/Dockerfile.dockerignore");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().expect("the repository");
    for package in packages("Cargo.toml") {
        let manifest = package.manifest_path.as_std_path();
        let below = manifest.strip_prefix(&root).expect("a crate of ours");
        let first = below.iter().next().expect("a folder").to_string_lossy();
        let is_sent = ignored.lines().any(|line| line == format!("!{first}"));
        assert!(is_sent, "deploy/Dockerfile.dockerignore leaves {first} out");
    }
}

#[test]
fn dependencies_md_lists_exactly_the_programs_that_are_built() {
    let mut built = BTreeSet::new();
    for script in ["tests/run", "tests/fuzz", "tools/release"] {
        let script = read(script);
        let calls = script.lines().filter_map(|line| {
            let words = line.trim().strip_prefix("cargo_tool ")?;
            words.split(' ').next()
        });
        built.extend(calls.map(str::to_owned));
    }
    assert_eq!(listed("Programs that are built from source"), built);
}

//! The allowed dependencies between the crates.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// The allowed dependencies. `cli` may depend on all products, `tests` and `tools` on everything.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("evergreen-store", &[]),
    ("evergreen-store-writer", &["evergreen-store"]),
    ("evergreen-ghl", &[]),
    ("evergreen-service", &[]),
    (
        "evergreen-broker",
        &[
            "evergreen-ghl",
            "evergreen-service",
            "evergreen-store",
            "evergreen-store-writer",
        ],
    ),
    (
        "evergreen-gateway",
        &["evergreen-ghl", "evergreen-service", "evergreen-store"],
    ),
    ("evergreen-sandbox", &["evergreen-ghl", "evergreen-service"]),
    (
        "properties",
        &[
            "evergreen-gateway",
            "evergreen-ghl",
            "evergreen-service",
            "evergreen-store",
            "evergreen-store-writer",
        ],
    ),
    (
        "simulation",
        &[
            "evergreen-broker",
            "evergreen-ghl",
            "evergreen-service",
            "evergreen-store",
            "evergreen-store-writer",
        ],
    ),
];

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    metadata.packages
}

fn dependencies(package: &Package) -> BTreeSet<&str> {
    let real = package.dependencies.iter().filter(|dependency| {
        // Development dependencies are not linked into a program.
        dependency.kind != DependencyKind::Development
    });
    real.map(|dependency| dependency.name.as_str()).collect()
}

#[test]
fn crates_depend_only_on_allowed_crates() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let allowed = BTreeMap::from(ALLOWED);
    for package in &packages {
        let known: BTreeSet<&str> = dependencies(package).intersection(&ours).copied().collect();
        match (package.name.as_str(), allowed.get(package.name.as_str())) {
            (_, Some(allowed)) => {
                let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
                let forbidden: Vec<_> = known.difference(&allowed).collect();
                assert!(
                    forbidden.is_empty(),
                    "{} must not depend on {forbidden:?}",
                    package.name
                );
            }
            ("evergreen-cli", None) => {
                let tests = ["evergreen-tools", "properties", "simulation", "tests"];
                assert!(tests.iter().all(|name| !known.contains(name)), "{known:?}");
            }
            ("tests" | "evergreen-tools", None) => {}
            (other, None) => {
                panic!("{other} is new: add its dependencies here and in ARCHITECTURE.md")
            }
        }
    }
}

#[test]
fn redis_rslock_and_redb_are_used_only_by_store_crates() {
    let restricted: [(&str, &[&str]); 3] = [
        ("redis", &["evergreen-store", "evergreen-store-writer"]),
        ("rslock", &["evergreen-store-writer"]),
        ("redb", &["evergreen-store-writer"]),
    ];
    for (library, allowed) in restricted {
        for package in packages() {
            let name = package.name.as_str();
            let is_forbidden = dependencies(&package).contains(library) && !allowed.contains(&name);
            assert!(!is_forbidden, "{name} must not depend on {library}");
        }
    }
}

#[test]
fn gateway_does_not_link_the_store_writer() {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .exec()
        .expect("cargo metadata");
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let name = |id: &cargo_metadata::PackageId| metadata[id].name.to_string();
    let nodes: BTreeMap<_, _> = resolve
        .nodes
        .iter()
        .map(|node| (node.id.clone(), node))
        .collect();
    let gateway = nodes
        .keys()
        .find(|id| name(id) == "evergreen-gateway")
        .expect("the gateway");
    let (mut seen, mut next) = (BTreeSet::new(), vec![gateway.clone()]);
    while let Some(id) = next.pop() {
        if seen.insert(id.clone()) {
            let normal = nodes[&id].deps.iter().filter(|dependency| {
                dependency
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind != DependencyKind::Development)
            });
            next.extend(normal.map(|dependency| dependency.pkg.clone()));
        }
    }
    let names: BTreeSet<String> = seen.iter().map(name).collect();
    for forbidden in ["evergreen-store-writer", "rslock", "redb"] {
        assert!(!names.contains(forbidden), "the gateway links {forbidden}");
    }
}

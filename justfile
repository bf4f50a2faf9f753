# Short names for what is done often. `tests/run` is what CI runs, and needs no `just`.

# What there is
default:
    @just --list --unsorted

# Everything on this machine, with a local GHL to try it on
up *flags:
    cargo run --release -- up {{ flags }}

# Formatting
fmt:
    cargo fmt --all

# Lints; a warning is a mistake
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked --features evergreen-cli/crash-points -- -D warnings

# Every test there is, as CI runs them
test:
    ./tests/run

# The same, and what takes long: dependencies, the release, documents, fuzzing, ten minutes for each load test
all:
    ./tests/run --all

# Cargo's tests whose names contain a word, such as `just some leases`
some word:
    cargo build --workspace --all-targets --locked --features evergreen-cli/crash-points
    cargo test --workspace --locked --features evergreen-cli/crash-points {{ word }}

# Dependencies: versions, fences between crates, licences, sources. Needs `cargo install cargo-deny`.
# Advisories are left to `cargo deny check advisories`: it fetches a database from a host that a
# build machine need not reach.
deny:
    cargo deny check bans licenses sources

# Functions that tests/run, tests/fresh, tests/package, tools/bench/run and tools/release share. They source this file.

# --- prerequisites ---------------------------------------------------------------------------------

root=(env)        # prefix of commands that need root
((EUID == 0)) || root=(sudo env)

# prerequisites "PROGRAM PACKAGE…"…: installs the Debian packages of missing programs. If it cannot, it
# lists everything that is missing and fails.
prerequisites() {
    local line program brings rust lines=() packages=()
    for line; do
        read -r program line <<< "$line"
        ! has "$program" > /dev/null 2>&1 || continue
        lines+=("    $program: apt-get install $line")
        read -ra brings <<< "$line"
        packages+=("${brings[@]}")
    done
    rust=$(missing_rust)
    if [[ -n $rust ]] || { ((${#packages[@]} > 0)) && ! may_install; }; then
        echo "    missing, and how to get it:"
        [[ -z $rust ]] || echo "$rust"
        ((${#lines[@]} == 0)) || printf '%s\n' "${lines[@]}"
        return 1
    fi
    ((${#packages[@]} > 0)) || { echo "    nothing is missing"; return; }
    echo "    installing ${packages[*]}"
    install_packages "${packages[@]}"
}

has() {
    local bundle
    case $1 in
        # The program alone is not enough: crates with C code need the C library's headers.
        cc) cc -x c -o /dev/null - <<< $'#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }' ;;
        # evergreen does not start on a machine without root certificates.
        CA-certificates)
            for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
                [[ ! -s $bundle ]] || return 0
            done
            return 1
            ;;
        # The package has no program. Without its modules `python3 -m venv` cannot install pip.
        python3-venv) python3 -c 'import ensurepip, venv' ;;
        python3-yaml) python3 -c 'import yaml' ;;
        # `kill` is also a builtin of the shell, but tests start the program.
        *) type -P "$1" ;;
    esac
}

# Prints a line for each missing part of the Rust toolchain. It is not installed here, since it is the user's
# and does not come from Debian packages.
missing_rust() {
    local pinned found tool
    pinned=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
    if ! found=$(rustc --version 2> /dev/null) || ! cargo --version > /dev/null 2>&1; then
        found="no working Rust"
    elif [[ $found == "rustc $pinned "* ]]; then
        for tool in clippy fmt; do
            cargo "$tool" --version > /dev/null 2>&1 ||
                echo "    cargo $tool: rustup component add --toolchain $pinned ${tool/#fmt/rustfmt}"
        done
        return
    fi
    echo "    Rust $pinned with clippy and rustfmt (found: $found): install rustup, see https://rustup.rs, and then:"
    echo "        rustup toolchain install $pinned --component clippy,rustfmt"
}

may_install() { type -P apt-get > /dev/null && { ((EUID == 0)) || type -P sudo > /dev/null; }; }

# A subshell, so that its trap cleans up in every case.
install_packages() (
    output=$(mktemp) policy=
    trap 'rm -f "$output"; [[ -z $policy ]] || "${root[@]}" rm -f "$policy"' EXIT
    # Do not start services: only the programs are needed.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" > /dev/null
        "${root[@]}" chmod +x "$policy"
    fi
    apt=("${root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -qq)
    # An unreachable package source matters only if no other source has the package.
    "${apt[@]}" update || true
    "${apt[@]}" install --no-install-recommends "$@" > "$output" 2>&1 || { cat "$output"; exit 1; }
)

# --- tools -----------------------------------------------------------------------------------------

# cargo_tool NAME VERSION: builds it from source into $target/tools, once for each target folder.
cargo_tool() {
    # Some are found only through cargo, and want its name of them first.
    [[ $("$target/tools/bin/$1" "${1#cargo-}" --version 2> /dev/null) == *"$2"* ]] ||
        [[ $("$target/tools/bin/$1" --version 2> /dev/null) == *"$2"* ]] ||
        cargo install --quiet --locked --root "$target/tools" --version "$2" "$1"
}

# --- ports -----------------------------------------------------------------------------------------

# Three consecutive free ports, below the range that the kernel uses for outgoing connections.
free_ports() {
    local first port
    for first in $(shuf -i 18000-31997 -n 50); do
        for port in "$first" $((first + 1)) $((first + 2)); do
            ! (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null || continue 2
        done
        echo "$first"
        return
    done
    return 1
}

# A minimal Debian root in namespaces of its own: functions that tests/fresh and tests/package share. They set `program`
# to their own path, source tests/functions.sh and this file, and call `machine_main` before anything else.

work=        # the temporary folder
child=       # the process that holds the namespaces, while they exist
stage=       # the current stage
cargo_home=${CARGO_HOME:-$HOME/.cargo}

stage() {
    stage=$1
    echo "=== $stage ($((SECONDS / 60)) min)"
}

# Within namespaces runs the function that the arguments name, and ends. `isolated` starts the script so.
machine_main() {
    [[ ${1-} == --in-namespaces ]] || return 0
    shift
    "$@"
    exit
}

# Runs a function of the script in namespaces of its own. They end with the function, with the script,
# and after PATIENCE.
isolated() {
    local patience=$1 code=0
    shift
    # The first process of a namespace must reap orphans, which a shell does.
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
        bash -c 'timeout --kill-after 10 "$@"; exit' timeout "$patience" \
        "$program" --in-namespaces "$@" < /dev/null &
    child=$!
    wait "$child" || code=$?
    child=
    ((code != 124 && code != 137)) || echo "    not done within $patience"
    return "$code"
}

# --- the folder of the machine ---------------------------------------------------------------------

finish() {
    local code=$?
    trap '' INT TERM HUP
    [[ -z $child ]] || kill -KILL "$child" 2> /dev/null || true
    # Processes of the namespaces may still write for a moment.
    for _ in {1..50}; do
        [[ -n $work && -e $work ]] || break
        rm -rf --one-file-system "$work" 2> /dev/null || sleep 0.2
    done
    [[ ! -e $work ]] || echo "$program: $work could not be removed"
    if ((code == 0)); then
        echo "$program: passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
    else
        echo "$program: FAILED: $stage"
    fi
}

# The last line of the script says whether it passed, however it ends.
report_the_end() {
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

require_root() {
    ((EUID != 0)) || return 0
    # shellcheck disable=SC2016 # the reader's shell expands it
    echo "$program needs root, since it mounts:" 'sudo env "PATH=$PATH" "HOME=$HOME"' "$program" >&2
    exit 64
}

# Makes $work, and removes the folders of killed runs, whose process no longer exists.
make_work() {
    local former pid name=evergreen-${program##*/}
    for former in "${TMPDIR:-/var/tmp}/$name".*.*; do
        pid=${former%.*}
        [[ ! -d $former || -e /proc/${pid##*.} ]] || rm -rf --one-file-system "$former"
    done
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/$name.$$.XXXXXX")
    chmod 755 "$work"
}

# --- Debian ----------------------------------------------------------------------------------------

# This machine's Debian package sources, one per line: URI, suite, component.
debian_sources() {
    # shellcheck disable=SC2016 # apt-get expands it
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' | sort -u
}

# Sets `suite` and `mirror` to those of this machine.
find_debian() {
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
    [[ -n $(debian_sources) ]] || apt-get -qq update
    mirror=$(debian_sources | awk -v suite="$suite" '$2 == suite && $3 == "main" && !found++ { print $1 }')
    [[ -n $mirror ]] || { echo "    apt has no source of Debian's suite '$suite'"; return 1; }
}

# make_debian ROOT: a minimal Debian with this machine's package sources.
make_debian() {
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    [[ -z ${http_proxy-} ]] || export http_proxy
    isolated 20m debian "$1" "$suite" "$mirror"
    carry_configuration "$1"
}

debian() {
    local root=$1 suite=$2 mirror=$3
    # Hide its output, which has three lines for each package.
    debootstrap --variant=minbase "$suite" "$root" "$mirror" > "$root.log" 2>&1 ||
        { tail -n 20 "$root.log" "$root/debootstrap/debootstrap.log" 2> /dev/null; return 1; }
}

# Copies the settings with which this machine reaches package registries, and nothing else.
carry_configuration() {
    local root=$1 file
    debian_sources | sed 's/^/deb /' > "$root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::' | grep -vE '^Acquire::(IndexTargets|.*Proxy-Auto-Detect)' \
        > "$root/etc/apt/apt.conf.d/90acquire"
    # A user would confirm the commands.
    echo 'APT::Get::Assume-Yes "true";' > "$root/etc/apt/apt.conf.d/91assume-yes"
    mkdir -p "$root/root/.cargo" "$root/usr/local/share/ca-certificates"
    for file in /etc/resolv.conf /etc/hosts /etc/npmrc /etc/pip.conf /etc/apt/auth.conf; do
        [[ ! -f $file ]] || cp --dereference "$file" "$root$file"
    done
    for file in /etc/apt/auth.conf.d /etc/apt/trusted.gpg.d /usr/local/share/ca-certificates; do
        [[ ! -d $file ]] || cp -a "$file/." "$root$file/"
    done
    [[ ! -f ~/.npmrc ]] || cp ~/.npmrc "$root/root/.npmrc"
    for file in .config/pip/pip.conf .pip/pip.conf; do
        [[ ! -f ~/$file ]] || install -D -m 600 "$HOME/$file" "$root/root/$file"
    done
    for file in config config.toml; do
        [[ ! -f $cargo_home/$file ]] || cp "$cargo_home/$file" "$root/root/.cargo/"
    done
    # The package ca-certificates creates the files in /etc/ssl.
    file=${NODE_EXTRA_CA_CERTS-}
    [[ ! -f $file || $file == /etc/ssl/* ]] || cp --parents --dereference "$file" "$root"
}

# --- in the namespaces -----------------------------------------------------------------------------

# enter ROOT [MODE:SOURCE:TARGET]… -- FUNCTION…: makes ROOT the root of this mount namespace, with the SOURCEs of this
# machine bound into it (MODE: ro or rw), and runs a function of the script there. `machine_path` precedes the PATH.
enter() {
    local root=$1 mode source target carried
    shift
    # The environment variables with which package managers reach registries.
    mapfile -td '' carried < \
        <(env -0 | grep -zEi '^((https?|all|no)_proxy|node_extra_ca_certs|npm_config_[^=]*|pip_[^=]*)=')
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    while [[ $1 != -- ]]; do
        IFS=: read -r mode source target <<< "$1"
        mkdir -p "$root$target"
        mount --bind "$source" "$root$target"
        [[ $mode == rw ]] || mount -o remount,bind,ro "$root$target"
        shift
    done
    shift
    cd "$root"
    # Not chroot: a process in a chroot may not make user namespaces.
    pivot_root . mnt
    cd /evergreen
    umount --lazy /mnt
    env -i HOME=/root PATH="${machine_path:+$machine_path:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        "${carried[@]}" DEBIAN_FRONTEND=noninteractive CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never \
        "$program" --in-namespaces "$@"
}

# answers PORT: whether /health is 200. Needs no program.
answers() {
    local status
    exec 3<> "/dev/tcp/127.0.0.1/$1"
    printf 'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    read -t 10 -r _ status _ <&3
    [[ $status == 200 ]]
}

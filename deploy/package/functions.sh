# Functions of tools/release: what is packed beside the program, the archive, the .deb and the .rpm.
# They use `commit`, `host`, `version`, `target` and SOURCE_DATE_EPOCH.

cargo_home=${CARGO_HOME:-$HOME/.cargo}
units=(evergreen evergreen-broker evergreen-gateway)

# write_pages PROGRAM FOLDER: man pages and completions, which the program writes itself.
write_pages() {
    rm -rf "$2"
    mkdir -p "$2/man" "$2/completions"
    "$1" man "$2/man"
    "$1" completions bash > "$2/completions/evergreen.bash"
    "$1" completions zsh > "$2/completions/_evergreen"
    "$1" completions fish > "$2/completions/evergreen.fish"
}

# write_licences SOURCES LINKED TRIPLE OUTPUT: the texts of the licences of all crates that LINKED lists, each text once.
write_licences() {
    local sources=$1 linked=$2 triple=$3 output=$4 name folder licence file texts digest
    texts=$(mktemp -d "$work/texts.XXXXXX")
    {
        echo "Licences of the crates in evergreen. evergreen's own are in LICENSE-MIT and LICENSE-APACHE."
        echo
    } > "$output"
    cargo metadata --manifest-path "$sources/Cargo.toml" --locked --format-version 1 --filter-platform "$triple" |
        jq -r '.packages[] | select(.source) | "\(.name)@\(.version)\t\(.manifest_path)\t\(.license // "see below")"' |
        sort > "$texts/packages"
    while IFS=$'\t' read -r name folder licence; do
        grep -qxF "$name" "$linked" || continue
        echo "$name: $licence" >> "$output"
        for file in "${folder%/*}"/{LICEN[CS]E,COPYING,COPYRIGHT,NOTICE,UNLICENSE}*; do
            [[ -f $file ]] || continue
            digest=$(sha256sum < "$file" | cut -c 1-64)
            cp "$file" "$texts/$digest.text"
            echo "$name (${file##*/})" >> "$texts/$digest.crates"
        done
    done < "$texts/packages"
    for file in "$texts"/*.crates; do
        printf '\n%s\n\n' "--- $(paste -sd, "$file" | sed 's/,/, /g')"
        cat "${file%.crates}.text"
    done >> "$output"
}

# The documents, with the paths of the repository, so that their links work.
documents() {
    git ls-tree -r --name-only "$commit" README.md CHANGELOG.md SECURITY.md docs deploy |
        grep -vE '^docs/(images|book\.toml)|^deploy/(helm|kubernetes|package|systemd|demo|check$|check-manifests|Dockerfile|\.)'
}

# write_archive PROGRAM FOLDER OUTPUT: the same bytes for the same files: sorted, with the commit's time, of nobody.
write_archive() {
    local name file folder=$2/archive
    name=$(basename "$3" .tar.gz)
    rm -rf "$folder"
    mkdir -p "$folder/$name/systemd"
    install -m 755 "$1" "$folder/$name/evergreen"
    documents | tar -C "$2/sources" -T - -c | tar -C "$folder/$name" -x
    cp -r "$2/pages/man" "$2/pages/completions" "$folder/$name"
    cp "$2/third-party-licences.txt" "$2"/sources/LICENSE-* "$folder/$name"
    cp "$2"/sources/deploy/systemd/*.service "$folder/$name/systemd"
    tar -C "$folder" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode=go=u,go-w -c "$name" | gzip -9n > "$3"
}

# --- packages --------------------------------------------------------------------------------------

# stage_tree PROGRAM FOLDER: a tree with all files as they are installed.
stage_tree() {
    local tree=$2/tree sources=$2/sources documents=$2/tree/usr/share/doc/evergreen unit file
    rm -rf "$tree"
    mkdir -p "$documents" "$tree/usr/lib/systemd/system"
    install -D -m 755 "$1" "$tree/usr/bin/evergreen"
    for unit in "${units[@]}"; do
        # A user of the package in the place of one that systemd makes up: commands can run as it, too.
        sed -e 's#/usr/local/bin/#/usr/bin/#' -e 's/^DynamicUser=yes$/User=evergreen\nGroup=evergreen/' \
            "$sources/deploy/systemd/$unit.service" > "$tree/usr/lib/systemd/system/$unit.service"
    done
    for file in up broker gateway; do
        install -D -m 640 "$sources/deploy/package/$file.env" "$tree/etc/evergreen/$file.env"
    done
    for file in "$2"/pages/man/*; do
        mkdir -p "$tree/usr/share/man/man1"
        gzip -9nc "$file" > "$tree/usr/share/man/man1/${file##*/}.gz"
    done
    install -D -m 644 "$2/pages/completions/evergreen.bash" "$tree/usr/share/bash-completion/completions/evergreen"
    install -D -m 644 "$2/pages/completions/evergreen.fish" "$tree/usr/share/fish/vendor_completions.d/evergreen.fish"
    documents | tar -C "$sources" -T - -c | tar -C "$documents" -x
    gzip -9nc "$2/third-party-licences.txt" > "$documents/third-party-licences.txt.gz"
    chmod -R u=rwX,go=rX "$documents"
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# assets_of TREE: a line of TOML for each file: source, destination, mode.
assets_of() {
    find "$1" -type f -printf '%P %m\n' | sort | while read -r path mode; do
        printf '    { source = "%s", dest = "/%s", mode = "%s" },\n' "$1/$path" "$path" "$mode"
    done
}

# write_packages PROGRAM FOLDER OUTPUT
write_packages() {
    local manifest=$2/sources/cli/Cargo.toml tree=$2/tree
    stage_tree "$1" "$2"
    write_deb "$2" "$manifest" "$3"
    write_rpm "$2" "$manifest" "$3"
}

# The zsh completion has another place in each of them, and so have the licences.
write_deb() {
    local folder=$1 manifest=$2 output=$3 tree=$1/deb
    rm -rf "$tree"
    cp -a "$folder/tree" "$tree"
    install -D -m 644 "$folder/pages/completions/_evergreen" "$tree/usr/share/zsh/vendor-completions/_evergreen"
    printf 'evergreen (%s-1) stable; urgency=medium\n\n  * See CHANGELOG.md beside this file.\n\n -- %s  %s\n' "$version" \
        "$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' "$folder/sources/deploy/package/deb/control.toml")" \
        "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" > "$folder/changelog.Debian"
    {
        printf '\n[package.metadata.deb]\nassets = [\n'
        # cargo-deb finds the units by itself.
        assets_of "$tree" | grep -v 'dest = "/usr/lib/systemd/'
        echo ']'
        cat "$folder/sources/deploy/package/deb/control.toml"
    } > "$folder/deb.toml"
    with_metadata "$manifest" "$folder/deb.toml" \
        cargo deb --quiet --manifest-path "$manifest" --no-build --no-strip --profile dist --output "$output/" > /dev/null
}

write_rpm() {
    local folder=$1 manifest=$2 output=$3 tree=$1/rpm
    rm -rf "$tree"
    cp -a "$folder/tree" "$tree"
    install -D -m 644 "$folder/pages/completions/_evergreen" "$tree/usr/share/zsh/site-functions/_evergreen"
    install -D -m 644 -t "$tree/usr/share/licenses/evergreen" "$folder"/sources/LICENSE-*
    {
        printf '\n[package.metadata.generate-rpm]\nassets = [\n'
        assets_of "$tree" | sed '/dest = "\/etc\// s/ },$/, group = "evergreen", config = "noreplace" },/'
        echo ']'
        cat "$folder/sources/deploy/package/rpm/spec.toml"
    } > "$folder/rpm.toml"
    # builtin: what rpm's own program finds would depend on whether rpm is installed here.
    (cd "$folder/sources" && with_metadata "$manifest" "$folder/rpm.toml" \
        cargo generate-rpm --package cli --auto-req builtin --output "$output/")
}

# with_metadata MANIFEST TOML COMMAND…: runs the command while the manifest ends with the TOML.
with_metadata() {
    local manifest=$1 toml=$2 code=0
    shift 2
    cp "$manifest" "$manifest.kept"
    cat "$toml" >> "$manifest"
    PATH=$target/tools/bin:$PATH "$@" || code=$?
    mv "$manifest.kept" "$manifest"
    return "$code"
}

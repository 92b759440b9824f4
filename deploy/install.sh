#!/bin/sh
# Installs Seaway for whoever runs this, after its checksum was compared.
#
#     curl -fsSL ADDRESS/install.sh | sh
#
# SEAWAY_BIN_DIR says where the program goes (~/.local/bin), SEAWAY_DOWNLOADS where it comes from.
set -eu
version=@VERSION@
downloads=${SEAWAY_DOWNLOADS:-@DOWNLOADS@}
into=${SEAWAY_BIN_DIR:-$HOME/.local/bin}

fail() { echo "install.sh: $*" >&2; exit 1; }
[ -n "$downloads" ] || fail "nobody said where to download from; set SEAWAY_DOWNLOADS"

case $(uname -s) in
    Linux) system=unknown-linux-gnu ;;
    Darwin) system=apple-darwin ;;
    *) fail "there is no program for $(uname -s) (on Windows it runs under WSL)" ;;
esac
case $(uname -m) in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "there is no program for $(uname -m)" ;;
esac
name=seaway-$version-$machine-$system

fetch() { # NAME FILE
    if command -v curl >/dev/null 2>&1; then curl -fsSL "$downloads/$1" -o "$2"
    elif command -v wget >/dev/null 2>&1; then wget -q "$downloads/$1" -O "$2"
    else fail "neither curl nor wget is there"
    fi || fail "$downloads/$1 cannot be downloaded"
}
sum() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "Seaway $version from $downloads"
fetch "$name.tar.gz" "$folder/$name.tar.gz"
fetch SHA256SUMS "$folder/SHA256SUMS"
expected=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]$name\.tar\.gz\$/\1/p" "$folder/SHA256SUMS")
[ -n "$expected" ] || fail "SHA256SUMS has no line for $name.tar.gz"
[ "$(sum "$folder/$name.tar.gz")" = "$expected" ] || fail "$name.tar.gz is not what SHA256SUMS says: nothing was installed"
tar -xzf "$folder/$name.tar.gz" -C "$folder"
mkdir -p "$into"
# Beside the old one first: what runs is never half a program.
cp "$folder/$name/seaway" "$into/.seaway.new"
chmod 0755 "$into/.seaway.new"
mv "$into/.seaway.new" "$into/seaway"
pages=${XDG_DATA_HOME:-$HOME/.local/share}/man/man1
mkdir -p "$pages" && cp "$folder/$name"/man/*.1 "$pages/"
echo "installed $into/seaway"
case ":$PATH:" in
    *":$into:"*) echo "try it: seaway demo" ;;
    *) echo "$into is not on your PATH; try it: $into/seaway demo" ;;
esac

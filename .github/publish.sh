#!/usr/bin/env bash
# Publishes the platform packages and the main package, from addons/addon-<platform>/:
#   .github/publish.sh [--dry-run]
# A second run of a release that broke off continues where the first one stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
options=("$@")

version=$(node -p 'require("./package.json").version')
case "$version" in *-*) tag=next ;; *) tag=latest ;; esac

publish () {
    package=$(node -p 'const { name, version } = require(process.argv[1]); `${name}@${version}`' "$PWD/$1/package.json")
    if [ -n "$(npm view "$package" version 2>/dev/null)" ]; then
        echo "$package is published already"
        return
    fi
    npm publish "./$1" --access public --tag "$tag" ${GITHUB_ACTIONS:+--provenance} ${options[@]+"${options[@]}"}
}

node scripts/platforms.mjs --check
for folder in npm/*/; do
    id=$(basename "$folder")
    cp "addons/addon-$id/ipc-mutex.$id.node" "$folder"
    node scripts/pack.mjs --complete "$id"
done
# The platform packages come first: the main package must never name one that does not exist.
for folder in npm/*/; do
    publish "$folder"
done
node scripts/platforms.mjs --publish
publish .

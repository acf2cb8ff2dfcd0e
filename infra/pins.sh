#!/usr/bin/env bash
# Resolves constraints.txt again: of every library the newest release that pyproject.toml allows, one set for Python 3.11 to 3.14 on
# Linux and macOS (arm64). Shows what changed; writes only if asked: infra/pins.sh [--write] [uv's options, such as --upgrade-package duckdb].
set -euo pipefail
cd "$(dirname "$0")/.."
write=false
if [ "${1:-}" = --write ]; then write=true && shift; fi
new=$(mktemp)
trap 'rm -f "$new" "$new.all" "$new.pins"' EXIT
if [ $# -gt 0 ]; then grep -v '^#' constraints.txt > "$new.all"; fi  # all others stay
"${UV:-uv}" pip compile pyproject.toml --all-extras --universal --python-version 3.11 --fork-strategy fewest \
    --no-annotate --no-header --quiet --output-file "$new.all" "$@" > /dev/null
sed -E 's/ ;.*//' "$new.all" | grep -vE '^(nvidia-|cuda-|triton)' | sort -u > "$new.pins"
{   head -1 constraints.txt
    # what pyproject.toml does not name (tools that a project adds, such as lightning) stays as it is pinned
    { grep -v '^#' constraints.txt | grep -vf <(sed -E 's/^(.*==).*/^\1/' "$new.pins") || true; cat "$new.pins"; } | sort
} > "$new"
if twice=$(sed -E 's/==.*//' "$new" | uniq -d) && [ -n "$twice" ]; then
    echo "error: no one release of these fits every Python: $(echo $twice); cap them in pyproject.toml" >&2
    exit 1
fi
if cmp -s <(sort constraints.txt) <(sort "$new"); then
    echo "constraints.txt is current"
else
    diff <(sort constraints.txt) <(sort "$new") | grep '^[<>]' || true
fi
if $write; then cp "$new" constraints.txt && echo "constraints.txt written: make setup && make check test, then commit"; fi

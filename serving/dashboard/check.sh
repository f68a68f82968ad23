#!/usr/bin/env bash
# Checks that the committed dist/ is what the sources give: types, then a build into a temporary folder.
set -euo pipefail
cd "$(dirname "$0")"
if ! cmp -s package-lock.json node_modules/stamp; then
  npm ci --ignore-scripts --no-audit --no-fund --silent
  cp package-lock.json node_modules/stamp
fi
npx tsc --noEmit
built=$(mktemp -d)
trap 'rm -rf "$built" "$built.rs"' EXIT
node build.mjs "$built"
node embed.mjs "$built.rs"
if ! diff -q ../src/http/dashboard.rs "$built.rs"; then
  echo "serving/src/http/dashboard.rs does not list dist: run 'node embed.mjs' in serving/dashboard and commit it" >&2
  exit 1
fi
if ! diff -rq dist "$built"; then
  echo "serving/dashboard/dist differs from its sources: run 'npm run build' and 'node embed.mjs' in serving/dashboard, and commit both" >&2
  exit 1
fi

#!/usr/bin/env bash
# Checks that the committed dist/ is what the sources give: types, then a build into a temporary folder.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund --silent
npx tsc --noEmit
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
node build.mjs "$built"
if ! diff -rq dist "$built"; then
  echo "serving/dashboard/dist differs from its sources: run 'npm run build' in serving/dashboard and commit dist" >&2
  exit 1
fi

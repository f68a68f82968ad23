#!/usr/bin/env bash
# The rules of the house (see dependency_rules.py), licences and sources.
set -euo pipefail
cd "$(dirname "$0")/../.."

status=0
python3 tests/setup/dependency_rules.py || status=1

# Licences, sources, and no crate twice: deny.toml.
deny="${ADLAKE_CACHE:-$HOME/.cache/adlake}/deny/bin/cargo-deny"
if [ -x "$deny" ]; then
  "$deny" --locked check bans licenses sources || status=1
else
  echo "cargo-deny is missing, so deny.toml is not checked: run tests/setup/setup.sh deny" >&2; status=1
fi
exit $status

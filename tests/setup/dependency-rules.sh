#!/usr/bin/env bash
# The rules of the house (see dependency_rules.py), and licences and sources, where cargo-deny is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

status=0
python3 tests/setup/dependency_rules.py || status=1

if command -v cargo-deny >/dev/null; then
  cargo deny --offline check bans licenses sources || status=1
fi
exit $status

#!/usr/bin/env bash
# All tests of infra/: the quick ones, then those with real servers. ADLAKE_BIN is the program; by default that of `make build`.
#
#   run.sh            everything
#   run.sh NAME...    some of: static, deploy, image, prometheus, lag, bi, catalog, elk, restore, airflow, terraform
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${ADLAKE_CACHE:-$HOME/.cache/adlake}"
names=("$@")
((${#names[@]})) || names=(static deploy image prometheus lag bi catalog elk restore airflow terraform)
log="$(mktemp -t adlake-infra-XXXXXX)"
trap 'rm -f "$log"' EXIT

one() {
  local name="$1" began=$SECONDS
  case "$name" in
    static) "$here/static.sh" || return 1 ;;
    deploy) "$cache/infra/venv/bin/python" "$here/deploy_check.py" || return 1 ;;
    image | prometheus | lag | bi | catalog | elk | restore | terraform) "$cache/infra/venv/bin/python" "$here/${name}_run.py" || return 1 ;;
    airflow) "$cache/infra/airflow/bin/python" "$here/airflow_run.py" || return 1 ;;
    *) echo "no such test: $name" >&2; return 2 ;;
  esac
  echo "infra: $name passed in $((SECONDS - began)) s"
}

# Terraform mostly waits: it runs beside the others.
beside=""
for name in "${names[@]}"; do
  if [ "$name" = terraform ]; then
    one terraform >"$log" 2>&1 &
    beside=$!
  fi
done
passed=0 failed=0
for name in "${names[@]}"; do
  [ "$name" = terraform ] && continue
  if one "$name"; then passed=$((passed + 1)); else echo "infra: $name FAILED" >&2; failed=$((failed + 1)); fi
done
if [ -n "$beside" ]; then
  if wait "$beside"; then passed=$((passed + 1)); else echo "infra: terraform FAILED" >&2; failed=$((failed + 1)); fi
  cat "$log"
fi
echo "infra: $passed passed, $failed failed"
((failed == 0))

#!/usr/bin/env bash
# All tests of infra/: the quick ones, then those with real servers. ADLAKE_BIN is the program; by default that of `make build`.
#
#   run.sh            everything
#   run.sh NAME...    some of: static, deploy, image, prometheus, restore, airflow, terraform
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${ADLAKE_CACHE:-$HOME/.cache/adlake}"
names=("$@")
((${#names[@]})) || names=(static deploy image prometheus restore airflow terraform)
passed=0
for name in "${names[@]}"; do
  began=$SECONDS
  case "$name" in
    static) "$here/static.sh" ;;
    deploy) "$cache/infra/venv/bin/python" "$here/deploy_check.py" ;;
    image | prometheus | restore | terraform) "$cache/infra/venv/bin/python" "$here/${name}_run.py" ;;
    airflow) "$cache/infra/airflow/bin/python" "$here/airflow_run.py" ;;
    *) echo "no such test: $name" >&2; exit 2 ;;
  esac
  passed=$((passed + 1))
  echo "infra: $name passed in $((SECONDS - began)) s"
done
echo "infra: $passed passed, 0 failed"

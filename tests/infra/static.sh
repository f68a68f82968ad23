#!/usr/bin/env bash
# The quick checks of infra/, without servers: formats, READMEs, validation, the logic of the Terraform modules, checkov, scripts.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${ADLAKE_CACHE:-$HOME/.cache/adlake}"
python="$cache/infra/venv/bin/python"
[ -x "$python" ] || { echo "tests/infra: MISSING: the Python environment: tests/setup/setup.sh infra" >&2; exit 1; }
work="$(mktemp -d -t adlake-static-XXXXXX)"
trap 'rm -rf "$work"' EXIT

"$python" tests/infra/terraform_docs.py --check infra/terraform/modules/* infra/terraform/examples/*

"$python" tests/infra/cost_check.py

# The provider comes from a mirror on this machine.
eval "$(cd tests/infra && "$python" -c "
import pathlib, shlex, environment
for name, value in environment.terraform_environment(pathlib.Path('$work')).items():
    print(f'export {name}={shlex.quote(value)}')")"
terraform fmt -check -recursive infra/terraform
# A copy, because terraform writes a lock beside the configuration.
cp -r infra/terraform "$work/terraform"
for folder in "$work"/terraform/examples/*/ "$work"/terraform/modules/*/; do
  case "$folder" in
    */modules/*) [ -d "$folder/tests" ] || continue ;;
  esac
  export TF_DATA_DIR="$work/data"
  rm -rf "$TF_DATA_DIR"
  terraform -chdir="$folder" init -backend=false -input=false >"$work/init" 2>&1 || { cat "$work/init" >&2; exit 1; }
  case "$folder" in
    */examples/*) terraform -chdir="$folder" validate -no-color | sed "s|^|${folder#"$work/"}: |" | grep -v '^[^:]*: $' ;;
    *) terraform -chdir="$folder" test -no-color >"$work/test" 2>&1 || { cat "$work/test" >&2; exit 1; }
       grep '^Success' "$work/test" | sed "s|^|${folder#"$work/"}: |" ;;
  esac
done

# A skip is a comment at the resource, with its reason; checkov refuses none without being told.
"$cache/infra/venv/bin/checkov" --directory infra/terraform --framework terraform --skip-download --quiet --compact
if grep -rnE 'checkov:skip=[A-Z0-9_]+ *$|checkov:skip=[A-Z0-9_]+:? *$' infra/terraform; then
  echo "tests/infra: a skip of checkov without a reason" >&2; exit 1
fi
shellcheck infra/docker/*.sh tests/infra/*.sh

#!/usr/bin/env bash
# The dependency rules: layers never import one another, and the domain stays pure. Licences and sources.
set -euo pipefail
cd "$(dirname "$0")/../.."

direct() { # the direct dependencies of a crate, names only
  cargo tree --locked -p "adlake-$1" -e normal --depth 1 --prefix none | tail -n +2 | cut -d' ' -f1 | sort -u
}

status=0
only() { # crate, allowed adlake crates
  local crate=$1; shift
  local found
  for found in $(direct "$crate" | grep '^adlake-' || true); do
    case " $* adlake-workspace-hack " in
      *" $found "*) ;;
      *) echo "adlake-$crate must not depend on $found" >&2; status=1 ;;
    esac
  done
}

only domain
only lake adlake-domain
for layer in speed-layer batch-layer serving; do only "$layer" adlake-domain adlake-lake; done

# What would make the domain impure: I/O, async, storage, Kafka.
for found in $(direct domain); do
  case $found in
    arrow|chrono|chrono-tz|humantime-serde|itoa|serde|serde_json|thiserror|xxhash-rust|adlake-workspace-hack) ;;
    *) echo "adlake-domain must stay pure: it depends on $found" >&2; status=1 ;;
  esac
done

# Program code does not panic; `todo!` and friends are denied by clippy, ignored tests here.
if grep -rnE '#\[ignore' --include='*.rs' . ; then
  echo "a test is ignored" >&2; status=1
fi

# Licences, sources, and no crate twice: deny.toml.
deny="${ADLAKE_CACHE:-$HOME/.cache/adlake}/deny/bin/cargo-deny"
if [ -x "$deny" ]; then
  "$deny" --locked check bans licenses sources || status=1
else
  echo "cargo-deny is missing, so deny.toml is not checked: run tests/setup/setup.sh deny" >&2; status=1
fi
exit $status

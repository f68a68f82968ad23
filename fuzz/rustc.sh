#!/usr/bin/env bash
# A RUSTC_WRAPPER that instruments adlake's own crates for libFuzzer and leaves everything else as it is: stable Rust will do, and
# DataFusion is not built anew.
set -euo pipefail
for argument in "$@"; do
  case "$argument" in
    adlake_domain | adlake_decode | adlake_lake | adlake_speed_layer | json | json_bids | csv | avro | files_json | files_csv | \
      files_avro | tables)
      if [[ "${previous:-}" == --crate-name && ( "$argument" == adlake_* || -n "${CARGO_BIN_NAME:-}" ) ]]; then
        exec "$@" --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
          -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
          -Cllvm-args=-sanitizer-coverage-trace-compares
      fi
      ;;
  esac
  previous="$argument"
done
exec "$@"

#!/usr/bin/env bash
# Fuzzes one decoder, one reader of files, or the writer of Parquet: fuzz.sh TARGET [SECONDS] [libFuzzer's options]
#
# On stable Rust, with coverage of adlake's own crates and without sanitizers. With nightly Rust and cargo-fuzz,
# `cargo +nightly fuzz run avro` in this folder does the same with AddressSanitizer. It builds all dependencies for it first.
set -euo pipefail
target="${1:?json, json_bids, csv, avro, files_json, files_csv, files_avro or tables}"
seconds="${2:-60}"
shift $(($# > 2 ? 2 : $#))
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${ADLAKE_CACHE:-$HOME/.cache/adlake}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target-fuzz}"
# The versions of the project itself.
cp "$here/../Cargo.lock" "$here/Cargo.lock"
case "$target" in
  files_*) features=files ;;
  tables) features=tables ;;
  *) features= ;;
esac
RUSTC_WRAPPER="$here/rustc.sh" cargo build --release --manifest-path "$here/Cargo.toml" --bin "$target" --features "$features"

corpus="$cache/fuzz/$target"
mkdir -p "$corpus"
data="${ADLAKE_TEST_DATA:-$here/../../shared/data}"
case "$target" in
  json | files_json) cp -n "$data"/JSONTestSuite/test_parsing/*.json "$corpus" 2>/dev/null || true ;;
  csv | files_csv) cp -n "$data"/csv-spectrum/csvs/*.csv "$corpus" 2>/dev/null || true ;;
  avro | files_avro) find "$data/arrow-testing/data/avro" -name '*.avro' -size -4k -exec cp -n {} "$corpus" \; 2>/dev/null || true ;;
esac
cd "$corpus/.."
exec "$CARGO_TARGET_DIR/release/$target" "$corpus" -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=1024 \
  -timeout=10 -print_final_stats=1 "$@"

#!/bin/sh
# Puts what comes from secrets as text into files, then becomes adlake. The only writable place is /work.
#
#   ADLAKE_IMAGE_CONFIG   the text of adlake.toml
#   ADLAKE_IMAGE_KEYS     the text of the file of keys (serve.keys_file = /work/keys)
set -eu
umask 077

mkdir -p /work/spill
if [ -n "${ADLAKE_IMAGE_CONFIG:-}" ]; then
  printf '%s\n' "$ADLAKE_IMAGE_CONFIG" >/work/adlake.toml
  export ADLAKE_CONFIG=/work/adlake.toml
fi
if [ -n "${ADLAKE_IMAGE_KEYS:-}" ]; then
  printf '%s\n' "$ADLAKE_IMAGE_KEYS" >/work/keys
fi
unset ADLAKE_IMAGE_CONFIG ADLAKE_IMAGE_KEYS
cd /work
exec /usr/local/bin/adlake "$@"

#!/bin/sh
# Puts what comes from secrets as text into files, then becomes adlake. The only writable place is /var/lib/adlake.
#
#   ADLAKE_IMAGE_CONFIG   the text of adlake.toml
#   ADLAKE_IMAGE_KEYS     the text of the file of keys (serve.keys_file = /var/lib/adlake/keys)
set -eu
umask 077

mkdir -p /var/lib/adlake/spill
if [ -n "${ADLAKE_IMAGE_CONFIG:-}" ]; then
  printf '%s\n' "$ADLAKE_IMAGE_CONFIG" >/var/lib/adlake/adlake.toml
  export ADLAKE_CONFIG=/var/lib/adlake/adlake.toml
fi
if [ -n "${ADLAKE_IMAGE_KEYS:-}" ]; then
  printf '%s\n' "$ADLAKE_IMAGE_KEYS" >/var/lib/adlake/keys
fi
unset ADLAKE_IMAGE_CONFIG ADLAKE_IMAGE_KEYS
cd /var/lib/adlake
exec /usr/local/bin/adlake "$@"

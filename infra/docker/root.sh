#!/bin/bash
# root.sh PROGRAM SCRIPTS ROOT: lays the root file system of the image under ROOT.
#
# The Dockerfile runs it with ROOT=/, on a Debian slim image. tests/infra/image_run.py runs it on a folder that it fills from the
# same packages. So what CI starts is what the image has.
set -eu
program="$1" scripts="$2" root="${3%/}"

install -d -m 755 "$root/usr/local/bin" "$root/etc"
install -m 755 "$program" "$root/usr/local/bin/adlake"
install -m 755 "$scripts/entrypoint.sh" "$root/usr/local/bin/adlake-entrypoint"
install -m 755 "$scripts/health.sh" "$root/usr/local/bin/adlake-health"

# A user without a name elsewhere, a home or a shell. The numbers are those of the task definitions and manifests.
touch "$root/etc/passwd" "$root/etc/group"
grep -q '^adlake:' "$root/etc/passwd" || echo 'adlake:x:10001:10001::/var/lib/adlake:/usr/sbin/nologin' >>"$root/etc/passwd"
grep -q '^adlake:' "$root/etc/group" || echo 'adlake:x:10001:' >>"$root/etc/group"

# The one writable place. A volume that is laid over it takes its owner and mode.
install -d -m 755 "$root/var/lib"
install -d -m 700 -o 10001 -g 10001 "$root/var/lib/adlake"

#!/bin/bash
# adlake-health PORT [PATH]: whether /healthz on this machine answers 200. Only bash, so that the image needs no HTTP client.
set -eu
port="$1" path="${2:-/healthz}"
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$path" >&3
read -t 4 -r answer <&3
case "$answer" in
  HTTP/1.?" 200"*) exit 0 ;;
  *) printf '%s\n' "$answer" >&2; exit 1 ;;
esac

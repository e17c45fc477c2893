#!/bin/sh
# deploy/mirror.sh FROM TO: copy what the data root TO lacks; either may be anything that rclone knows, such as s3:bucket/lake.
# Data and receipts never change once they are written, so a copy is whole when it has every name. Receipts come last: a
# reader of the copy finds none without its data, whenever the copying was stopped, and the next call goes on. A receipt
# that is there and differs was written by another machine: that is an error, and nothing is overwritten.
set -eu
if rclone lsf --max-depth 1 "$1/datasets" >/dev/null 2>&1; then
  rclone copy --checksum "$1/datasets" "$2/datasets" # declarations are a person's, and do change
fi
for part in raw downloads cache lake; do
  if rclone lsf --max-depth 1 "$1/$part" >/dev/null 2>&1; then
    rclone copy --size-only --exclude '.lock' "$1/$part" "$2/$part"
  fi
done
rclone copy --immutable --checksum "$1/receipts" "$2/receipts"

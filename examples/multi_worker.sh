#!/usr/bin/env bash
# Trains on two workers, two processes of this machine that meet on 127.0.0.1. On real
# hosts start the last command on each, with the addresses of all in TF_CONFIG.
#
#   examples/multi_worker.sh [--epochs 3 ...]    arguments of `keras-en train`
set -euo pipefail

port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
cluster="{\"worker\": [\"127.0.0.1:$(port)\", \"127.0.0.1:$(port)\"]}"
pids=()
trap 'kill "${pids[@]}" 2> /dev/null || true' EXIT
for index in 0 1; do
    TF_CONFIG="{\"cluster\": $cluster, \"task\": {\"type\": \"worker\", \"index\": $index}}" \
        keras-en train --strategy multiworker "$@" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid"
done

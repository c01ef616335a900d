#!/bin/sh
# Waits for FILE, takes its environment, and becomes COMMAND:   entrypoint.sh FILE COMMAND ...
# The proxy writes FILE (its name is <upstream.run_dir>/environment) as the last step of an init. It
# is gone again once the init is undone, so that a container which restarts then waits again.
set -eu
trap 'exit 143' TERM
file=$1
shift
until [ -e "$file" ]; do sleep 0.05; done
trap - TERM
# shellcheck source=/dev/null
. "$file"
exec "$@"

#!/bin/sh
# The same with kubectl and curl:   claim.sh CLAIM_ID < init.json
# Where pods can be reached by their address; the pool's key is in OH_SECRET_KEY.
set -eu
[ $# = 1 ] && [ -n "${OH_SECRET_KEY:-}" ] ||
    { echo "usage: OH_SECRET_KEY=... claim.sh CLAIM_ID < init.json" >&2; exit 2; }
claim=$1
warm=deferred-init/pool=agents,deferred-init/claimed=false
columns='{range .items[*]}{.metadata.name} {.metadata.resourceVersion} {.status.podIP}'
columns=$columns' {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
said=$(mktemp)
secret=$(mktemp)
trap 'rm -f "$said" "$secret"' EXIT
pod=$(kubectl get pods -l "$warm" -o jsonpath="$columns" | while read -r name version address ready; do
    [ "$ready" = True ] || continue
    # Of two who patch the same version, one is refused and takes the next pod.
    patch="{\"metadata\":{\"resourceVersion\":\"$version\",\"labels\":
        {\"deferred-init/claimed\":\"true\",\"deferred-init/claim\":\"$claim\"}}}"
    if kubectl patch pod "$name" --type merge -p "$patch" >/dev/null 2>"$said" </dev/null; then
        echo "http://$address:${AGENT_PORT:-8000}"
        break
    fi
done)
# The last refusal too: it may have been no lost race, but a missing permission.
[ -n "$pod" ] || { cat "$said" >&2; echo "no warm pod is left" >&2; exit 1; }
# The key in a file: arguments can be read in the process table.
printf 'header = "X-Init-API-Key: %s"\n' "$OH_SECRET_KEY" >"$secret"
curl -sS --fail-with-body -K "$secret" -H "Idempotency-Key: $claim" -H 'Content-Type: application/json' \
    --data-binary @- -o "$said" "$pod/api/init" || { cat "$said" >&2; exit 1; }
echo "$pod"

#!/bin/sh
# The same with kubectl and curl:   claim.sh CLAIM_ID < init.json
# Where pods can be reached by their address; the pool's key is in OH_SECRET_KEY.
set -eu
claim=$1
warm=deferred-init/pool=agents,deferred-init/claimed=false
columns='{range .items[*]}{.metadata.name} {.metadata.resourceVersion} {.status.podIP}'
columns=$columns' {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
pod=$(kubectl get pods -l "$warm" -o jsonpath="$columns" | while read -r name version address ready; do
    [ "$ready" = True ] || continue
    # Of two who patch the same version, one is refused and takes the next pod.
    patch="{\"metadata\":{\"resourceVersion\":\"$version\",\"labels\":
        {\"deferred-init/claimed\":\"true\",\"deferred-init/claim\":\"$claim\"}}}"
    if kubectl patch pod "$name" --type merge -p "$patch" >/dev/null 2>&1 </dev/null; then
        echo "http://$address:${AGENT_PORT:-8000}"
        break
    fi
done)
[ -n "$pod" ] || { echo "no warm pod is left" >&2; exit 1; }
# The key in a file: arguments can be read in the process table.
secret=$(mktemp)
trap 'rm -f "$secret"' EXIT
printf 'header = "X-Init-API-Key: %s"\n' "$OH_SECRET_KEY" >"$secret"
curl -sSf -K "$secret" -H "Idempotency-Key: $claim" -H 'Content-Type: application/json' \
    --data-binary @- "$pod/api/init" >/dev/null
echo "$pod"

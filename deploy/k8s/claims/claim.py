"""Claims a warm pod and activates it, with nothing but the standard library. Runs in the cluster.

    python claim.py CLAIM_ID < init.json        prints the pod's address once it is ready

Its service account may get, list and patch pods; the pool's key is in OH_SECRET_KEY.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
API = os.environ.get("KUBERNETES_API", "https://kubernetes.default.svc")
PORT = os.environ.get("AGENT_PORT", "8000")
WARM = "deferred-init/pool=agents,deferred-init/claimed=false"


def ask(method, url, body=None, kind="application/json", timeout=130, **headers):
    """The status and the JSON of the answer, whatever it is."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, headers | {"Content-Type": kind}, method=method)
    authority = ACCOUNT / "ca.crt"
    trust = ssl.create_default_context(cafile=authority if authority.exists() else None)
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=trust) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def kubernetes(method, path, body=None):
    token = (ACCOUNT / "token").read_text().strip()  # read each time: it is rotated
    pods = f"{API}/api/v1/namespaces/{(ACCOUNT / 'namespace').read_text().strip()}/pods"
    kind = "application/merge-patch+json"
    return ask(method, pods + path, body, kind, Authorization=f"Bearer {token}")


def ready(pod):
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def take(claim):
    """A pod that is ours alone: of two who patch the same version of it, one gets 409."""
    status, found = kubernetes("GET", f"?labelSelector={WARM}")
    if status != 200:
        sys.exit(f"cannot list pods: {found.get('message', status)}")
    for pod in filter(ready, found["items"]):
        labels = {"deferred-init/claimed": "true", "deferred-init/claim": claim}
        version = pod["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version, "labels": labels}}
        status, taken = kubernetes("PATCH", "/" + pod["metadata"]["name"], patch)
        if status == 200:
            return f"http://{taken['status']['podIP']}:{PORT}"
        if status not in (404, 409):  # neither gone nor somebody else's: so it is with all of them
            sys.exit(f"cannot take {pod['metadata']['name']}: {taken.get('message', status)}")
    sys.exit("no warm pod is left: try again, and make the pool larger")


def main():
    key = os.environ.get("OH_SECRET_KEY")
    if len(sys.argv) != 2 or not key:
        sys.exit("usage: OH_SECRET_KEY=... python claim.py CLAIM_ID < init.json")
    # Before a pod is taken for it.
    claim, init = sys.argv[1], json.load(sys.stdin)
    pod = take(claim)
    status, answer = ask("POST", f"{pod}/api/init", init, X_Init_API_Key=key, Idempotency_Key=claim)
    if status != 200 or answer["state"] != "ready":
        sys.exit(f"{pod}: {status} {answer}")  # dormant again: post once more, or delete the pod
    print(pod)


if __name__ == "__main__":
    main()

"""What kustomize makes of `deploy/k8s`."""

from __future__ import annotations

import functools
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.harness import ROOT

OVERLAYS = ("sidecar", "entrypoint", "signal", "agent-sandbox")
DEPLOY = ROOT / "deploy" / "k8s"
Object = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> str:
    """The overlay's YAML."""
    if shutil.which("kubectl") is None:
        pytest.fail("kubectl is not here, and only its kustomize knows what the overlays mean")
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def objects(overlay: str, kind: str | None = None) -> list[Object]:
    found: list[Object] = list(yaml.safe_load_all(rendered(overlay)))
    return [each for each in found if kind in {None, each["kind"]}]


def pod_template(overlay: str) -> Object:
    """`metadata` and `spec` of the overlay's pods."""
    if overlay == "agent-sandbox":
        (template,) = objects(overlay, "SandboxTemplate")
        found: Object = template["spec"]["podTemplate"]
    else:
        (deployment,) = objects(overlay, "Deployment")
        found = deployment["spec"]["template"]
    return found


def containers(overlay: str) -> dict[str, Object]:
    """By name, init containers first."""
    spec = pod_template(overlay)["spec"]
    every = [*spec.get("initContainers", []), *spec["containers"]]
    return {container["name"]: container for container in every}


def proxy_container(overlay: str) -> Object:
    """The one whose port is the proxy's."""
    (found,) = [c for c in containers(overlay).values() if c.get("ports")]
    return found


def settings_file(overlay: str) -> str:
    """The text of the proxy's settings, found as its container finds it."""
    mounts = {m["mountPath"]: m["name"] for m in proxy_container(overlay)["volumeMounts"]}
    volumes = {v["name"]: v for v in pod_template(overlay)["spec"]["volumes"]}
    name = volumes[mounts["/etc/deferred-init"]]["configMap"]["name"]
    (config,) = [c for c in objects(overlay, "ConfigMap") if c["metadata"]["name"] == name]
    return str(config["data"]["proxy.yaml"])

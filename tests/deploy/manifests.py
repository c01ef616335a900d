"""What kustomize makes of `deploy/k8s`."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path

OVERLAYS = ("sidecar", "entrypoint", "signal", "agent-sandbox")
# Native sidecars are on by default since 1.29; the newest is the newest the validator knows.
VERSIONS = ("1.29", "1.37")
DEPLOY = ROOT / "deploy" / "k8s"
Object = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> str:
    """The overlay's YAML."""
    return kustomized(DEPLOY / "overlays" / overlay)


def kustomized(directory: Path) -> str:
    if shutil.which("kubectl") is None:
        pytest.fail("kubectl is not here, and only its kustomize knows what the overlays mean")
    done = subprocess.run(
        ["kubectl", "kustomize", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def validated(text: str, version: str) -> str:
    """What the strict validator of that Kubernetes version says; its complaint fails the test."""
    validator = shutil.which("kubernetes-validate")
    assert validator is not None, "kubernetes-validate is not installed: the extra `deploy`"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [validator, "--strict", "-k", version, file.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


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

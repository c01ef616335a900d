"""The optional component `monitoring` on every overlay it is for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import yaml

from proxy.settings import load_settings
from tests.deploy.manifests import DEPLOY, VERSIONS, Object, kustomized, settings_file, validated

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.deploy

OVERLAYS = ("sidecar", "entrypoint", "signal")


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def text(overlay: str, tmp_path: Path) -> str:
    """The overlay with the component, as the component's comment says."""

    def near(place: str) -> str:
        return os.path.relpath(DEPLOY / place, tmp_path)

    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [near(f"overlays/{overlay}")],
        "components": [near("components/monitoring")],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomized(tmp_path)


def one(text: str, kind: str) -> Object:
    (found,) = [each for each in yaml.safe_load_all(text) if each["kind"] == kind]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_is_valid_but_the_podmonitor_whose_schema_nobody_has(
    text: str, version: str
) -> None:
    said = validated(text, version)
    unknown = [line for line in said.splitlines() if line.startswith("WARN")]
    assert len(unknown) == 1
    assert "PodMonitor" in unknown[0]


def test_the_podmonitor_finds_the_port_that_the_admin_listener_is_on(
    text: str, overlay: str, tmp_path: Path
) -> None:
    monitor = one(text, "PodMonitor")
    template = one(text, "Deployment")["spec"]["template"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert set(endpoint) == {"port", "path", "interval"}
    spec = template["spec"]
    (proxy,) = [c for c in spec.get("initContainers", []) + spec["containers"] if c.get("ports")]
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    assert set(ports) == {"http", "metrics"}
    environ = {each["name"]: each.get("value", "k") for each in proxy["env"]}
    (tmp_path / "proxy.yaml").write_text(settings_file(overlay))
    admin = load_settings(tmp_path / "proxy.yaml", environ).listen.admin
    assert str(admin) == f"[::]:{ports[endpoint['port']]}"


def test_only_the_monitoring_namespace_reaches_it(text: str) -> None:
    clients, monitoring = one(text, "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in clients["ports"]] == ["http"]
    assert [port["port"] for port in monitoring["ports"]] == ["metrics"]
    namespace = {"kubernetes.io/metadata.name": "monitoring"}
    assert monitoring["from"] == [{"namespaceSelector": {"matchLabels": namespace}}]

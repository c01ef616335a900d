"""The manifests mean what they should, across fields that no schema ties together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from proxy.settings import load_settings
from tests.deploy.manifests import (
    DEPLOY,
    OVERLAYS,
    VERSIONS,
    Object,
    containers,
    objects,
    pod_template,
    proxy_container,
    rendered,
    settings_file,
    validated,
)

if TYPE_CHECKING:
    from proxy.settings import Settings

pytestmark = pytest.mark.deploy

DEPLOYMENTS = ("sidecar", "entrypoint", "signal")
# Seconds for what a shutdown does besides waiting: last bytes, KILL, stragglers, files.
MARGIN = 15
README = (DEPLOY / "README.md").read_text()


def settings(overlay: str, directory: Path) -> Settings:
    file = directory / "proxy.yaml"
    file.write_text(settings_file(overlay))
    return load_settings(file, {"OH_SECRET_KEY": "k"})


def mounts(container: Object) -> dict[str, Object]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_strictly(overlay: str, version: str) -> None:
    """But the custom resources, whose schema is their operator's."""
    known = [o for o in objects(overlay) if not o["kind"].startswith("Sandbox")]
    validated(yaml.safe_dump_all(known), version)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_are_valid_and_deferred(overlay: str, tmp_path: Path) -> None:
    assert settings(overlay, tmp_path).deferred_init


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_becomes_another_users_in_a_container_that_was_somebodys(
    overlay: str, tmp_path: Path
) -> None:
    """One that ends with its server is made anew; any other serves the same user again."""
    in_one = len(containers(overlay)) == 1
    assert settings(overlay, tmp_path).upstream.on_exit == ("exit" if in_one else "restart")


@pytest.mark.parametrize("overlay", DEPLOYMENTS)
def test_selectors_find_the_pods_they_are_meant_for(overlay: str) -> None:
    labels = pod_template(overlay)["metadata"]["labels"].items()
    (deployment,) = objects(overlay, "Deployment")
    (service,) = objects(overlay, "Service")
    (policy,) = objects(overlay, "NetworkPolicy")
    budgets = {b["metadata"]["name"]: b for b in objects(overlay, "PodDisruptionBudget")}
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert budgets["agents-warm"]["spec"]["selector"]["matchLabels"].items() <= labels
    claimed = dict(labels) | {"deferred-init/claimed": "true"}
    selector = budgets["agents-claimed"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= claimed.items()
    # A claimed pod leaves the Deployment and keeps its name, its service and its policy.
    assert not deployment["spec"]["selector"]["matchLabels"].items() <= claimed.items()
    assert service["spec"]["selector"].items() <= claimed.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= claimed.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_the_listener_on_the_pods_own_address(overlay: str, tmp_path: Path) -> None:
    address = settings(overlay, tmp_path).listen.address
    proxy = proxy_container(overlay)
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    assert str(address) == f"[::]:{ports['http']}"
    paths = {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    for probe, path in paths.items():
        asked = proxy[probe]["httpGet"]
        assert (asked["path"], asked["port"]) == (path, "http")
        assert "host" not in asked
    for service in objects(overlay, "Service"):
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_but_the_proxy_can_be_reached(overlay: str, tmp_path: Path) -> None:
    assert settings(overlay, tmp_path).upstream.url.address.loopback
    assert len([c for c in containers(overlay).values() if c.get("ports")]) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_grace_period_covers_a_whole_shutdown(overlay: str, tmp_path: Path) -> None:
    chosen = settings(overlay, tmp_path)
    drain = chosen.drain
    needed = drain.delay + drain.grace + chosen.upstream.stop_grace + MARGIN
    assert pod_template(overlay)["spec"]["terminationGracePeriodSeconds"] >= needed
    assert not any("lifecycle" in container for container in containers(overlay).values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_fit_the_restricted_profile(overlay: str) -> None:
    spec = pod_template(overlay)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(overlay).values():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "runAsUser" not in context  # one user for all: they meet on sockets and files
    assert {frozenset(volume) - {"name"} for volume in spec["volumes"]} <= {
        frozenset({"emptyDir"}),
        frozenset({"configMap"}),
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_named_is_there(overlay: str) -> None:
    spec = pod_template(overlay)["spec"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    used = {m["name"] for c in containers(overlay).values() for m in c["volumeMounts"]}
    assert used == volumes
    maps = {m["metadata"]["name"] for m in objects(overlay, "ConfigMap")}
    mounted = [v["configMap"] for v in spec["volumes"] if "configMap" in v]
    assert {m["name"] for m in mounted if not m.get("optional")} == maps
    for container in containers(overlay).values():
        assert set(container["resources"]) == {"requests", "limits"}
        assert ":" in container["image"].rpartition("/")[2]
        assert not container["image"].endswith(":latest")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_proxy_gets_the_key_and_the_readme_says_how_to_make_it(overlay: str) -> None:
    proxy = proxy_container(overlay)
    (variable,) = proxy["env"]
    secret = variable["valueFrom"]["secretKeyRef"]
    assert variable["name"] == "OH_SECRET_KEY"
    assert secret["optional"] is False
    others = [c for c in containers(overlay).values() if c["name"] != proxy["name"]]
    assert not any(c.get("env") or c.get("envFrom") for c in others)
    command = f"create secret generic {secret['name']} --from-literal={secret['key']}="
    assert command in README


@pytest.mark.parametrize("overlay", ["sidecar", "agent-sandbox"])
def test_proxy_and_launcher_meet_on_one_socket(overlay: str, tmp_path: Path) -> None:
    upstream = settings(overlay, tmp_path).upstream
    every = containers(overlay)
    assert list(every) == ["launcher", "proxy", "agent"]
    assert every["proxy"]["restartPolicy"] == "Always"
    zipapp = every["launcher"]["args"][-1]
    command = every["agent"]["command"]
    assert command[0] == upstream.command[0]
    assert zipapp in command
    socket = upstream.launcher.socket
    assert socket is not None
    assert command[-2:] == ["--socket", socket]
    here, there = (mounts(every[name])[str(Path(socket).parent)] for name in ("proxy", "agent"))
    assert here["name"] == there["name"]
    assert mounts(every["agent"])[str(Path(zipapp).parent)]["readOnly"] is True
    token = upstream.launcher.token
    assert token is not None
    private = mounts(every["proxy"])[str(Path(token).parent)]["name"]
    assert private not in {m["name"] for m in mounts(every["agent"]).values()}


@pytest.mark.parametrize("overlay", ["sidecar", "agent-sandbox"])
def test_the_agents_container_has_the_plan_if_the_operator_made_one(
    overlay: str, tmp_path: Path
) -> None:
    plan = settings(overlay, tmp_path).upstream.preload.plan
    assert plan is not None
    mount = mounts(containers(overlay)["agent"])[str(Path(plan).parent)]
    volumes = {v["name"]: v for v in pod_template(overlay)["spec"]["volumes"]}
    config = volumes[mount["name"]]["configMap"]
    assert config["optional"] is True
    assert f"create configmap {config['name']} --from-file={Path(plan).name}" in README


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_agent_works_where_it_may_write(overlay: str, tmp_path: Path) -> None:
    """What it keeps goes below its working directory and its home, and the root is read-only."""
    upstream = settings(overlay, tmp_path).upstream
    agent = containers(overlay)["agent"]
    for place in (upstream.cwd or agent["workingDir"], upstream.env["HOME"]):
        assert not mounts(agent)[place].get("readOnly")


def test_the_sandbox_template_is_the_sidecar_pod() -> None:
    def without_hashes(spec: Object) -> Object:
        volumes = [
            v | {"configMap": {"name": "settings"}} if v["name"] == "settings" else v
            for v in spec["volumes"]
        ]
        return spec | {"volumes": sorted(volumes, key=lambda volume: str(volume["name"]))}

    ours = without_hashes(pod_template("agent-sandbox")["spec"])
    assert ours == without_hashes(pod_template("sidecar")["spec"])
    (pool,) = objects("agent-sandbox", "SandboxWarmPool")
    (template,) = objects("agent-sandbox", "SandboxTemplate")
    assert pool["spec"]["sandboxTemplateRef"]["name"] == template["metadata"]["name"]


def test_signal_the_agent_waits_for_the_file_that_the_proxy_writes(tmp_path: Path) -> None:
    upstream = settings("signal", tmp_path).upstream
    assert upstream.run_dir is not None
    assert pod_template("signal")["spec"]["shareProcessNamespace"] is True
    agent, proxy = (containers("signal")[name] for name in ("agent", "proxy"))
    script, file = agent["command"][1:3]
    assert file == f"{upstream.run_dir}/environment"
    volume = str(Path(upstream.run_dir).parent)
    assert mounts(agent)[volume]["name"] == mounts(proxy)[volume]["name"]
    assert "agent-entrypoint" in rendered("signal")
    assert Path(script).name == "entrypoint.sh"


def test_entrypoint_the_image_has_the_proxy_as_its_entrypoint(tmp_path: Path) -> None:
    assert list(containers("entrypoint")) == ["agent"]
    plan = settings("entrypoint", tmp_path).upstream.preload.plan
    assert plan is not None
    assert Path(plan).parent.name in (DEPLOY.parent.parent / "Dockerfile").read_text()

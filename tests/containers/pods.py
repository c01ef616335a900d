"""An overlay's pod on this machine: its containers as rendered, run by podman in one pod.

What a kubelet would do is done here by hand, because `podman kube play` knows no native sidecars:
init containers run to their end or stay, volumes are directories, a restart is `podman start`. The
images are named here; with the sample agent in the agent server's place its command is replaced
too. Nothing else of the manifest is changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.containers.podman import (
    AGENT_IMAGE,
    AGENT_WARM_IMAGE,
    ENTRYPOINT_IMAGE,
    KEY,
    PROXY_IMAGE,
    Container,
    podman,
)
from tests.deploy.manifests import containers, pod_template, settings_file


@dataclass(frozen=True)
class Agent:
    """What runs as the agent server: by itself in `image`, under the proxy in `warm_image`."""

    image: str
    warm_image: str
    python: str
    # Words of the manifests that are others here.
    words: dict[str, str] = field(default_factory=dict)

    def fitted(self, text: str) -> str:
        for theirs, ours in self.words.items():
            text = text.replace(theirs, ours)
        return text


REAL = Agent(AGENT_IMAGE, AGENT_WARM_IMAGE, "/agent-server/.venv/bin/python")
SAMPLE = Agent(
    PROXY_IMAGE,
    ENTRYPOINT_IMAGE,
    "/opt/proxy/bin/python",
    {
        REAL.python: "/opt/proxy/bin/python",
        "openhands.agent_server": "proxy.demo.agent",
    },
)


class Pod:
    """The pod of `overlay`; `proxy` and `agent` are its two containers, or one and the same.

    `plan` is the text of the agent's preload plan, for overlays that mount one, and `dormancy` the
    proxy's own choice if nothing is said.
    """

    def __init__(
        self, overlay: str, agent: Agent = SAMPLE, *, plan: str = "", dormancy: str = ""
    ) -> None:
        self._overlay = overlay
        self._agent = agent
        self._plan = plan
        self._environment = [
            *("--env", f"OH_SECRET_KEY={KEY}", "--env", f"PROXY_UPSTREAM__DORMANCY={dormancy}")
        ]
        self.name = f"{overlay}-{uuid.uuid4().hex[:8]}"
        self._directory = Path(tempfile.mkdtemp(prefix="pod-"))
        self._directory.chmod(0o755)
        self._spec = pod_template(overlay)["spec"]
        shared = ["--share", "net,pid"] if self._spec.get("shareProcessNamespace") else []
        podman("pod", "create", "--network", "none", *shared, "--name", self.name)
        self.agent = Container(f"{self.name}-agent")
        alone = list(containers(overlay)) == ["agent"]
        self.proxy = self.agent if alone else Container(f"{self.name}-proxy")

    def start(self) -> Pod:
        """Container by container, in the kubelet's order."""
        for name, container in containers(self._overlay).items():
            once = name == "launcher"
            podman(
                *("run", *(["--rm"] if once else ["--detach"]), "--pod", self.name),
                *("--name", f"{self.name}-{name}"),
                *self._security(container),
                *self._volumes(container),
                *(self._environment if container.get("env") else []),
                *self._command(container),
            )
            if container.get("ports"):
                self.proxy.until("/health")  # the startup probe
        return self

    def restart(self, container: Container) -> None:
        """As after a crash: the same container, a new life."""
        podman("start", container.name)

    def close(self) -> None:
        podman("pod", "rm", "--force", "--time", "0", self.name, check=False)
        shutil.rmtree(self._directory, ignore_errors=True)

    def exec(self, container: Container, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python as the container's own user, as an agent's code would."""
        python = self._agent.python if container is self.agent else "/opt/proxy/bin/python"
        return subprocess.run(
            ["podman", "exec", container.name, python, "-c", code],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def _security(self, container: dict[str, Any]) -> list[str]:
        user = self._spec["securityContext"]["runAsUser"]
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
        return [
            *("--user", f"{user}:{user}", "--cap-drop", "all"),
            *("--security-opt", "no-new-privileges", "--read-only", "--read-only-tmpfs=false"),
        ]

    def _volumes(self, container: dict[str, Any]) -> list[str]:
        volumes = {volume["name"]: volume for volume in self._spec["volumes"]}
        options = []
        for mount in container["volumeMounts"]:
            place = self._volume(volumes[mount["name"]])
            mode = "ro" if mount.get("readOnly") else "rw"
            options += ["--volume", f"{place}:{mount['mountPath']}:{mode}"]
        return options

    def _volume(self, volume: dict[str, Any]) -> Path:
        place = self._directory / str(volume["name"])
        if not place.exists():
            place.mkdir()
            if volume["name"] == "settings":
                (place / "proxy.yaml").write_text(self._agent.fitted(settings_file(self._overlay)))
            elif volume["name"] == "plan":
                if self._plan:
                    (place / "preload-plan.json").write_text(self._plan)
            elif volume["name"] == "entrypoint":
                script = Path(__file__).parents[2] / "deploy/k8s/overlays/signal/entrypoint.sh"
                shutil.copy(script, place)
            else:
                os.chown(place, 0, self._spec["securityContext"]["fsGroup"])
                place.chmod(0o2777)  # as the kubelet makes an emptyDir with an fsGroup
        return place

    def _command(self, container: dict[str, Any]) -> list[str]:
        command = [self._agent.fitted(word) for word in container.get("command", [])]
        place = container.get("workingDir")
        entry = ["--entrypoint", command[0]] if command else []
        entry += ["--workdir", place] if place else []
        if container["name"] != "agent":
            image = PROXY_IMAGE
        elif self.proxy is self.agent:
            image = self._agent.warm_image
        else:
            image = self._agent.image
        return [*entry, image, *command[1:], *container.get("args", [])]

# Two images, and a file:
#
#   docker build -t deferred-init-proxy .               the proxy alone, for a sidecar
#   docker build --target entrypoint -t agent-warm .    the proxy on top of an agent server's image
#   docker build --target plan --output . .             that image's preload-plan.json, for a sidecar
#
# The last two by default have the sample agent. For OpenHands agent-server, whose image is IMAGE:
#
#   --build-arg AGENT_IMAGE=IMAGE --build-arg AGENT_PYTHON=/agent-server/.venv/bin/python \
#   --build-arg SETTINGS=deploy/entrypoint-openhands.yaml
#
# The entrypoint's last lines are what a Dockerfile of your own needs. Podman wants
# `--format docker`, since the OCI format has no HEALTHCHECK.
#
# The dependencies are those of requirements.lock, by hash. The package itself is pure Python: to
# copy it is to install it.
ARG PYTHON_VERSION=3.13
ARG AGENT_IMAGE=python:${PYTHON_VERSION}-slim

FROM python:${PYTHON_VERSION}-slim AS build
COPY requirements.lock /src/
RUN python -m venv --without-pip /opt/proxy \
    && pip --python /opt/proxy/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r /src/requirements.lock
COPY proxy /src/proxy
# With bytecode: the root file system is read-only at run time.
RUN cp -r /src/proxy /opt/proxy/lib/python3.*/site-packages/ \
    && /opt/proxy/bin/python -m compileall -q /opt/proxy/lib


# The proxy on top of an agent server's image, as its entrypoint. The image needs a Python >= 3.11
# with venv. AGENT_USER is who the image runs its server as; the proxy is that user too.
FROM ${AGENT_IMAGE} AS entrypoint
ARG AGENT_PYTHON=python3
ARG AGENT_USER=10001:10001
ARG SETTINGS=deploy/entrypoint.yaml
USER 0:0
COPY requirements.lock /opt/proxy/
RUN "${AGENT_PYTHON}" -m venv /opt/proxy \
    && /opt/proxy/bin/pip install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r /opt/proxy/requirements.lock
COPY proxy /opt/proxy/src/proxy
COPY ${SETTINGS} /etc/deferred-init-image/proxy.yaml
# The preload plan is recorded here, where interpreter and packages are those of the running image.
RUN cp -r /opt/proxy/src/proxy /opt/proxy/lib/python3.*/site-packages/ \
    && /opt/proxy/bin/python -m compileall -q /opt/proxy/lib \
    && OH_DEFERRED_INIT=false /opt/proxy/bin/python -I -m proxy record --config /etc/deferred-init-image/proxy.yaml
ENV OH_DEFERRED_INIT=true
USER ${AGENT_USER}
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/opt/proxy/bin/python", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/proxy/bin/python", "-I", "-m", "proxy"]
CMD ["serve", "--config", "/etc/deferred-init-image/proxy.yaml"]


FROM scratch AS plan
COPY --from=entrypoint /etc/deferred-init-image/preload-plan.json /


# The proxy alone.
FROM python:${PYTHON_VERSION}-slim AS proxy
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="deferred-init-proxy" \
    org.opencontainers.image.description="Gives any unmodified agent server the deferred-init (warm-pool) life cycle" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/proxy /opt/proxy
ENV OH_DEFERRED_INIT=true \
    PROXY_LISTEN__ADDRESS=[::]:8000
USER 10001:10001
WORKDIR /
EXPOSE 8000
# `/health` on the default port: with another `listen.address`, say so here too.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/opt/proxy/bin/python", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
# -I: what the deployment sets for the upstream's Python (PYTHONPATH) is not the proxy's.
ENTRYPOINT ["/opt/proxy/bin/python", "-I", "-m", "proxy"]
CMD ["serve"]

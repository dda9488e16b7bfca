# docker build -t nora .
# Another base, with Debian's python3 in its archive: --build-arg BASE=registry.internal/debian:bookworm-slim

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/nora/venv
WORKDIR /src
COPY . .
RUN /opt/nora/venv/bin/pip install --no-cache-dir --disable-pip-version-check . \
 && /opt/nora/venv/bin/pip uninstall -y --disable-pip-version-check pip setuptools \
 && /opt/nora/venv/bin/twistd --help >/dev/null

FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 4000 nora \
 && useradd --system --uid 4000 --gid 4000 --home-dir /data --no-create-home --shell /usr/sbin/nologin nora \
 && install -d -o nora -g nora -m 0750 /data
COPY --from=build /opt/nora/venv /opt/nora/venv

ENV NORA_HOST=0.0.0.0 NORA_STORAGE_PATH=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER nora
WORKDIR /data
VOLUME /data
EXPOSE 4000

HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/opt/nora/venv/bin/python", "-c", "\
import http.client, os, ssl, sys; \
port = int(os.environ.get('NORA_PORT', 4000)); \
ask = lambda kind, **how: [c := kind('127.0.0.1', port, timeout=4, **how), c.request('GET', '/ready'), c.getresponse().status][2]; \
status = ask(http.client.HTTPConnection); \
status = status if status != 400 else ask(http.client.HTTPSConnection, context=ssl._create_unverified_context()); \
sys.exit(status != 200)"]

# It is process 1 itself, so `docker stop` reaches it. Give it time to drain: docker stop -t 60.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/nora/venv/bin/twistd", "-n", "--pidfile=", "nora"]

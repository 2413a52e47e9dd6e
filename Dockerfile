# docker build -t little-bell . && docker run -p 127.0.0.1:3000:3000 -v "$(pwd)/data:/app/data" little-bell
# Another base is one with python3, its venv module, apt-get and setpriv (util-linux).
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/little-bell
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN /opt/build/bin/pip install --no-cache-dir --constraint constraints.txt hatchling \
 && /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/build/bin/pip --python /opt/little-bell/bin/python install --no-cache-dir \
      --only-binary :all: --constraint constraints.txt /wheel/little_bell-*.whl \
 && rm -rf /opt/little-bell/lib/python3*/site-packages/apsw/tests \
      /opt/little-bell/lib/python3*/site-packages/apsw/sqlite_extra_binaries \
      /opt/little-bell/lib/python3*/site-packages/aiosmtpd/tests

# hadolint ignore=DL3006
FROM ${BASE}
LABEL org.opencontainers.image.title="Little Bell" \
      org.opencontainers.image.description="A small, durable, honest email tracking server" \
      org.opencontainers.image.licenses="MIT"
# Versions of Debian's packages are not pinned: old ones leave its archive.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends curl \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && groupadd --gid 10001 bell \
 && useradd --no-log-init --uid 10001 --gid bell --home-dir /app --no-create-home --shell /usr/sbin/nologin bell \
 && install -d -o bell -g bell /app/data
COPY --from=build /opt/little-bell /opt/little-bell
COPY deploy/docker-entrypoint /usr/local/bin/little-bell
WORKDIR /app
VOLUME /app/data
EXPOSE 3000
STOPSIGNAL SIGTERM
# The first answer may take until a migration is done: unhealthy stops nothing before that.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["sh", "-c", "exec curl -fsS -o /dev/null http://localhost:${PORT:-3000}/health"]
# It starts as root only to give /app/data to the user bell, as whom it then runs.
ENTRYPOINT ["/usr/local/bin/little-bell"]
CMD ["serve"]

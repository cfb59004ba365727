# One image for serve, worker and migrate. The final stage has no compiler; the service's environment has no package
# installer. It runs as an ordinary user and needs no writable file system (with DATABASE_URL).
# To pin the base image, build with `--build-arg PYTHON_IMAGE=python:3.13-slim@sha256:…`.
# The core and the object store are always included; EXTRAS adds locks of requirements/: `--build-arg EXTRAS="tracing parquet"`.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ARG EXTRAS=tracing
WORKDIR /srv
COPY requirements /tmp/requirements
RUN python -m venv --without-pip /opt/tallyhook \
 && for lock in run ${EXTRAS}; do \
      python -m pip --python /opt/tallyhook/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
        --require-hashes --no-deps --only-binary=:all: -r "/tmp/requirements/$lock.txt" || exit 1; \
    done
COPY deploy/image/ /opt/tallyhook/bin/
COPY app app
COPY migrations migrations
# Nothing can be compiled at run time; bytecode without timestamps is the same in every build.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/tallyhook/lib /srv

FROM ${PYTHON_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tallyhook" \
      org.opencontainers.image.description="Automates Stripe's financial reports" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 tallyhook \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tallyhook \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/tallyhook /opt/tallyhook
COPY --from=build /srv /srv
WORKDIR /srv
ENV PATH=/opt/tallyhook/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/srv \
    TALLYHOOK_DATA_DIR=/data
USER 10001:10001
EXPOSE 8000
# Only checks whether the process answers: restarting the service does not help when the database is down.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --start-interval=1s --retries=3 CMD ["healthy", "live"]
ENTRYPOINT ["tallyhook"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

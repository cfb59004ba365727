# One image for serve, worker and migrate. The final stage has no compiler and no package installer of ours in use;
# it runs as an ordinary user and needs no writable file system (with DATABASE_URL).
FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /opt/tallyhook \
 && /opt/tallyhook/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
      --only-binary=:all: -r requirements/run.txt

FROM python:3.13-slim
LABEL org.opencontainers.image.title="tallyhook" \
      org.opencontainers.image.description="Automates Stripe's financial reports" \
      org.opencontainers.image.source="https://github.com/tallyhook/tallyhook"
RUN groupadd --gid 10001 tallyhook \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tallyhook \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/tallyhook /opt/tallyhook
WORKDIR /srv
COPY app app
COPY migrations migrations
ENV PATH=/opt/tallyhook/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TALLYHOOK_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000
# Asks only whether the process answers: a database that is away is no reason to restart the service.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --start-interval=1s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/live', timeout=3)"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

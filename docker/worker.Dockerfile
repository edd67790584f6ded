# A worker with the engine. TORCH chooses the build: the default Linux wheel carries CUDA.
FROM python:3.11-slim-bookworm
ARG TORCH="torch>=2.6,<2.14"
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/fusion
RUN --mount=type=cache,target=/root/.cache/pip pip install "$TORCH"
COPY pyproject.toml constraints.txt README.md ./
COPY app app
COPY fusion fusion
COPY workers workers
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt '.[worker]'
RUN useradd --system --uid 10001 --create-home fusion && install -d -o fusion /data
USER fusion
ENV FUSION_DATA_DIR=/data
# One step at a time; the database, not the broker, says which (docs/decisions/0002).
CMD ["celery", "-A", "workers.celery_app", "worker", "-Q", "cpu,gpu", "--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "info"]

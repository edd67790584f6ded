# A worker with the engine. The default Linux wheel of torch carries CUDA; for another build give TORCH and
# the index that has it, as the PyTorch site says.
FROM python:3.11-slim-bookworm
ARG TORCH="torch>=2.6,<2.14"
ARG PIP_EXTRA_INDEX_URL
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN --mount=type=cache,target=/root/.cache/pip pip install "$TORCH"
COPY pyproject.toml constraints.txt README.md ./
COPY app app
COPY fusion fusion
COPY workers workers
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt '.[worker]'
RUN useradd --system --uid 10001 fusion && install -d -o fusion -m 700 /data /data/sealing
WORKDIR /srv
USER fusion
# Hub downloads and compiled kernels survive the container; nothing is written outside of /data and /tmp.
ENV FUSION_DATA_DIR=/data HF_HOME=/data/cache/huggingface NUMBA_CACHE_DIR=/data/cache/numba
# One step at a time; the database, not the broker, says which (docs/decisions/0002).
CMD ["celery", "-A", "workers.celery_app", "worker", "-Q", "cpu,gpu", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "info"]

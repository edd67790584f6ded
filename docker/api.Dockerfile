# The API: no torch. Also runs the migrations (`python -m app.db.migrate`) and `fusion key bootstrap`.
FROM python:3.11-slim-bookworm
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml constraints.txt README.md ./
COPY app app
COPY fusion fusion
COPY workers workers
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt .
# A new volume takes over the owner of the folder it hides.
RUN useradd --system --uid 10001 fusion && install -d -o fusion -m 700 /data /data/secrets /data/sealing
# Not the source and not the data: what runs is what was installed.
WORKDIR /srv
USER fusion
ENV FUSION_DATA_DIR=/data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["uvicorn", "app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--no-access-log", "--no-server-header"]

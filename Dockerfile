# The prediction service. docs/serving.md says how to run it, on Cloud Run and behind Vertex AI too.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /build
RUN python -m venv /venv
# Every package by its hash, from first to last; this layer changes with the pins only. pip compiles
# bytecode, without which a start takes seconds longer.
COPY requirements/serving.txt requirements/
RUN /venv/bin/pip install --no-deps --require-hashes --requirement requirements/serving.txt
COPY pyproject.toml README.md LICENSE ./
COPY flows flows
COPY serving serving
COPY duckdb_bqml duckdb_bqml
RUN /venv/bin/pip install --no-build-isolation --no-deps . \
    && /venv/bin/pip check \
    && /venv/bin/pip uninstall --yes pip

FROM python:3.11-slim
# No more rights than it needs: it writes under /data and nowhere else.
RUN useradd --system --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin onedeal
COPY --from=build /venv /venv
WORKDIR /onedeal
# What the target means, and what a training that a message starts needs.
COPY dbt_project.yml profiles.example.yml ./
COPY models models
COPY macros macros
COPY analyses analyses
COPY tests/generic tests/generic
COPY tests/features tests/features
COPY tests/inference tests/inference
COPY tests/matching tests/matching
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 \
    ONEDEAL_PROJECT_DIR=/onedeal \
    ONEDEAL_HOME=/data \
    ONEDEAL_HOST=0.0.0.0
USER 10001
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Whether it lives; whether it is ready is for the orchestrator to ask, at /ready.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", \
    "import os, urllib.request as u; p = os.environ.get('AIP_HTTP_PORT') or os.environ.get('PORT', '8080'); u.urlopen(f'http://127.0.0.1:{p}/healthz', timeout=2)"]
CMD ["onedeal", "serve"]

# clipserve embed: models in this process. No torch, no Triton.
FROM python:3.12-slim AS build
COPY deploy/locks/build.txt /tmp/build.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/build.txt
COPY pyproject.toml README.md LICENSE NOTICE /opt/clipserve/
COPY client /opt/clipserve/client
COPY embed /opt/clipserve/embed
COPY export /opt/clipserve/export
COPY search /opt/clipserve/search
COPY serve /opt/clipserve/serve
RUN pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir /wheels /opt/clipserve
COPY deploy/locks/embed.txt /tmp/embed.txt
RUN python -m venv /opt/embed \
    && /opt/embed/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/embed.txt \
    && /opt/embed/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.12-slim
COPY --from=build /opt/embed /opt/embed
RUN useradd --create-home --uid 1000 embed
ENV PATH=/opt/embed/bin:$PATH

USER 1000
ENTRYPOINT ["clipserve", "embed"]

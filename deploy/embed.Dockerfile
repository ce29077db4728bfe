# clipserve embed: models in this process. No torch, no Triton.
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE NOTICE /opt/clipserve/
COPY client /opt/clipserve/client
COPY embed /opt/clipserve/embed
COPY export /opt/clipserve/export
COPY search /opt/clipserve/search
COPY serve /opt/clipserve/serve
RUN pip install --no-cache-dir "/opt/clipserve[embed]" \
    && useradd --create-home --uid 1000 embed

USER embed
ENTRYPOINT ["clipserve", "embed"]

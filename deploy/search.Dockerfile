# The search sidecar: LanceDB, faiss, HTTP, the page. No torch, no Triton: it talks to one.
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE NOTICE /opt/clipserve/
COPY client /opt/clipserve/client
COPY embed /opt/clipserve/embed
COPY export /opt/clipserve/export
COPY search /opt/clipserve/search
COPY serve /opt/clipserve/serve
RUN pip install --no-cache-dir "/opt/clipserve[search,object-store]" \
    && useradd --create-home --uid 1000 search \
    && mkdir /data && chown search /data

USER search
VOLUME /data
EXPOSE 1234
# Inside the container; which addresses of the host reach it is the port mapping's to say.
CMD ["clipserve", "search", "serve", "--data", "/data", "--triton", "triton:8001", "--host", "0.0.0.0", "--port", "1234"]

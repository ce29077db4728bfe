# The search sidecar: LanceDB, faiss, HTTP, the page. No torch, no Triton: it talks to one.
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
COPY deploy/locks/search.txt /tmp/search.txt
RUN python -m venv /opt/search \
    && /opt/search/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/search.txt \
    && /opt/search/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.12-slim
COPY --from=build /opt/search /opt/search
RUN useradd --create-home --uid 1000 search \
    && mkdir /data && chown search /data
ENV PATH=/opt/search/bin:$PATH

USER 1000
VOLUME /data
EXPOSE 1234
# Inside the container; which addresses of the host reach it is the port mapping's to say.
CMD ["clipserve", "search", "serve", "--data", "/data", "--triton", "triton:8001", "--host", "0.0.0.0", "--port", "1234"]

# The export with TensorRT: an engine only runs in the TensorRT that built it, so both images are of the same NGC release.
ARG TENSORRT=26.07

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

FROM nvcr.io/nvidia/tensorrt:${TENSORRT}-py3
# Which build of torch there is depends on the index, so its hash isn't locked.
RUN pip install --break-system-packages --no-cache-dir torch==2.13.0
COPY deploy/locks/export.txt /tmp/export.txt
COPY --from=build /wheels /wheels
RUN pip install --break-system-packages --no-cache-dir --no-deps --require-hashes --requirement /tmp/export.txt \
    && pip install --break-system-packages --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && rm -r /wheels /tmp/export.txt

ENTRYPOINT ["clipserve", "export"]

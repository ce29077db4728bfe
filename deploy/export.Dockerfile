# The export with TensorRT: an engine only runs in the TensorRT that built it, so both images are of the same NGC release.
ARG TENSORRT=26.07
FROM nvcr.io/nvidia/tensorrt:${TENSORRT}-py3

RUN pip install --break-system-packages --no-cache-dir torch==2.13.0

COPY pyproject.toml README.md LICENSE NOTICE /opt/clipserve/
COPY client /opt/clipserve/client
COPY embed /opt/clipserve/embed
COPY export /opt/clipserve/export
COPY search /opt/clipserve/search
COPY serve /opt/clipserve/serve
RUN pip install --break-system-packages --no-cache-dir '/opt/clipserve[export]'

ENTRYPOINT ["clipserve", "export"]

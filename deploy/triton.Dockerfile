# Triton with its native ONNX Runtime and TensorRT backends, and the Python packages that clipserve's models import.
ARG TRITON=26.07

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

FROM nvcr.io/nvidia/tritonserver:${TRITON}-py3

# The same lock as outside a container, less what the image has in native form: an entry ends with the first line that doesn't go on.
COPY serve/clip_inside_triton/requirements.txt /tmp/requirements.txt
RUN sed --regexp-extended '/^(nvidia-pytriton|onnxruntime|flatbuffers|packaging|protobuf)==/,/[^\\]$/d' \
        /tmp/requirements.txt > /tmp/models.txt \
    && pip install --break-system-packages --no-cache-dir --no-deps --only-binary :all: --require-hashes --requirement /tmp/models.txt \
    && rm /tmp/requirements.txt /tmp/models.txt

# OpenVINO as outside a container, in place of the native backend, which runs full batches only and picks its precision itself.
RUN rm --recursive /opt/tritonserver/backends/openvino
COPY serve/clip_inside_triton/backends/openvino /opt/tritonserver/backends/openvino
COPY serve/clip_inside_triton/backends/stand_in.py /opt/tritonserver/backends/python/

# The contract that the models adapt; its own dependencies are the list above.
COPY --from=build /wheels /wheels
RUN pip install --break-system-packages --no-cache-dir --no-deps --no-index /wheels/*.whl && rm -r /wheels

USER triton-server
EXPOSE 8000 8001 8002
# What changes the server or reads its memory is closed, and HTTP answers health alone: a page in a browser can send to it, and the
# SDK speaks gRPC. The key is known to everyone who can list processes, so it is one that can't be sent: longer than the metadata
# that gRPC takes with a request, and with a line's end in it, which ends a header of HTTP.
CMD ["sh", "-c", "closed=model-repository,shared-memory,trace,logging; \
      key=$(printf 'x\nx%17000s' '' | tr ' ' x); \
      exec tritonserver --model-repository=/models --model-control-mode=none --exit-timeout-secs=5 \
           --grpc-restricted-protocol=\"$closed:nobody=$key\" \
           --http-restricted-api=\"$closed,metadata,inference,model-config,statistics:nobody=$key\""]

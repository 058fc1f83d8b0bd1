# The service in a container; compose.yaml beside it runs it. The small build of PyTorch for CPUs comes from an index of
# PyTorch's own, which its page "Get started" names: docker build --build-arg TORCH_INDEX=ADDRESS -t reelseek .
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG TORCH_INDEX=""
COPY constraints.txt /constraints.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch -c /constraints.txt \
    && pip install --no-cache-dir "$(ls /wheels/*.whl)[ocr]" -c /constraints.txt \
    && pip install --no-cache-dir --no-deps rapidocr-onnxruntime -c /constraints.txt \
    && rm -r /wheels
RUN useradd --create-home reelseek && install -d -o reelseek /libraries
COPY packaging/healthy.py /home/reelseek/healthy.py
USER reelseek
VOLUME /libraries
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "/home/reelseek/healthy.py"]
ENTRYPOINT ["reelseek"]
CMD ["serve", "/libraries/main", "--host", "0.0.0.0"]

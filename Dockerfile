# ue-audit in a container: small base, no root, no network at run time.
#
#   docker build --build-arg TORCH=cpu --build-arg TORCH_INDEX=INDEX -t ue-audit .
#   docker run --rm --read-only --network none --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$PWD:/work" ue-audit demo
#
# TORCH        cpu (small) or cuda (about 5 GB). The build fails if the wheels found are of the other kind.
# TORCH_INDEX  address of a package index for torch and torchvision. On x86-64 the default index has CUDA wheels, so
#              cpu needs the CPU index that PyTorch's install page names; cuda and arm64 need none.
# BASE         another Python base, for instance with its digest.
#
# Everything that is written at run time lands in /work (mount it) and in /tmp (home and caches).
ARG BASE=python:3.12.8-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG TORCH=cpu
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/ue-audit
ENV PATH=/opt/ue-audit/bin:$PATH
RUN if [ -n "$TORCH_INDEX" ]; then export PIP_INDEX_URL="$TORCH_INDEX"; fi \
    && pip install --no-cache-dir "torch>=2.10,<3" "torchvision>=0.25" \
    && python -c "import sys, torch; sys.exit(0 if (torch.version.cuda is None) == ('$TORCH' == 'cpu') else \
       'TORCH=$TORCH was asked for, found torch ' + torch.__version__ + ': pass TORCH_INDEX')"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY presets presets
COPY ue_audit ue_audit
RUN pip install --no-cache-dir . && python -m compileall -q /opt/ue-audit

# hadolint ignore=DL3006
FROM ${BASE}
LABEL org.opencontainers.image.title="ue-audit" \
      org.opencontainers.image.description="How much of an image protection survives a determined attacker?" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/ue-audit /opt/ue-audit
ENV PATH=/opt/ue-audit/bin:$PATH HOME=/tmp XDG_CACHE_HOME=/tmp/.cache HF_HUB_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /work
USER 10001:10001
ENTRYPOINT ["ue-audit"]
CMD ["--help"]

# The server's image: the two programs, the shared libraries they load and nothing else. No shell, no package manager.
#
#   docker build -t adamoe-server:0.1.0 .
#   docker build -t adamoe-server:0.1.0-cuda --build-arg VARIANT=cuda .
#
# BASE is what it is built on, any Debian 12; pin it by digest (debian@sha256:...) where builds must be repeatable.
ARG BASE=docker.io/library/debian:12.12-slim

FROM ${BASE} AS build
# Where it is by default, so that the compiler's cache knows again what is compiled from there.
ENV ADAMOE_DEPS_DIR=/root/.cache/adamoe
WORKDIR /src
COPY deploy/install_deps.sh deploy/
# Libraries of the base end up in the image: upgraded first.
RUN apt-get update -q && apt-get upgrade -y -q && deploy/install_deps.sh build && rm -rf /var/lib/apt/lists/*
# cpu, or cuda: with the plugin for NVIDIA GPUs, which the server loads from beside itself where there is a driver.
ARG VARIANT=cpu
RUN if [ "$VARIANT" = cuda ]; then deploy/install_deps.sh cuda && rm -rf /var/lib/apt/lists/*; fi
COPY CMakeLists.txt CMakePresets.json LICENSE ./
COPY cmake cmake
COPY proto proto
COPY client client
COPY server server
# The compiler's cache outlives this build; it knows a file again wherever the source lies.
ENV CCACHE_BASEDIR=/src CCACHE_NOHASHDIR=1
RUN --mount=type=cache,target=/root/.cache/ccache \
    set -e; \
    mkdir out; \
    cmake --preset release -DADAMOE_BUILD_TRAIN=OFF -DADAMOE_BUILD_TESTS=OFF; \
    cmake --build --preset release --target adamoe_server adamoe_client; \
    cp build/release/server/adamoe_server build/release/client/adamoe_client out/; \
    if [ "$VARIANT" = cuda ]; then \
      cmake --preset cuda -DADAMOE_BUILD_TRAIN=OFF -DADAMOE_BUILD_TESTS=OFF; \
      cmake --build --preset cuda --target adamoe_cuda; \
      cp "$(find build/cuda -name libadamoe_cuda.so)" out/; \
    fi
COPY deploy/image deploy/image
RUN deploy/image/collect_root /image LICENSE out/*

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="adamoe-server" \
      org.opencontainers.image.description="Inference server for AdaMoE and Mixtral models: gRPC, continuous batching, Prometheus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
ENV PATH=/opt/adamoe
USER 65532:65532
# gRPC, health without TLS, HTTP, metrics: what deploy/k8s and deploy/compose.yaml listen on.
EXPOSE 50051 50052 8000 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/adamoe/adamoe_server"]

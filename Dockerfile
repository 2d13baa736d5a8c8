# Builds the three images. `docker image build -t $REGISTRY/chaos:0.1.0 .` compiles everything and
# builds the image of the agent, which is the last stage. `--target webhook` and `--target certs`
# build the other images.
#
# `--platform linux/amd64,linux/arm64` builds for both architectures without emulation, because the
# first stage runs on the builder's own architecture and cross-compiles. `--build-context build=DIR`
# replaces that stage with ready binaries, in one folder for each architecture. hack/images.sh uses
# this option.

FROM --platform=$BUILDPLATFORM rust:1.95 AS build
WORKDIR /source
COPY . .
ARG TARGETARCH
RUN hack/static.sh "$TARGETARCH" && cp -r target/static/. /

FROM scratch AS webhook
ARG TARGETARCH
ARG REVISION=unknown
ENV PURE_CHAOS_REVISION=$REVISION
COPY --from=build /$TARGETARCH/webhook /webhook
USER 65532:65532
ENTRYPOINT ["/webhook"]
CMD ["run"]

FROM scratch AS certs
ARG TARGETARCH
ARG REVISION=unknown
ENV PURE_CHAOS_REVISION=$REVISION
COPY --from=build /$TARGETARCH/certs /certs
USER 65532:65532
ENTRYPOINT ["/certs"]
CMD ["run"]

FROM scratch AS agent
ARG TARGETARCH
ARG REVISION=unknown
ENV PURE_CHAOS_REVISION=$REVISION
COPY --from=build /$TARGETARCH/agent /agent
USER 65532:65532
ENTRYPOINT ["/agent"]
# With this default, `kubectl create cronjob --image=…` needs no arguments. The Deployment sets
# `run`.
CMD ["once"]

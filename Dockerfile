# The three images. `docker image build -t $REGISTRY/chaos:0.1.0 .` compiles everything and yields the agent, so that is the last
# target; `--target webhook` and `--target certs` yield the others. `--platform linux/amd64,linux/arm64` makes them for both, without
# emulation: the first stage runs on the builder's own architecture and compiles across. `--build-context build=DIR` puts ready
# binaries, in a folder for each architecture, in the place of that stage (hack/images.sh does that).

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
# So that `kubectl create cronjob --image=…` needs no arguments; the Deployment says `run`.
CMD ["once"]

# The three images. `docker image build -t $REGISTRY/chaos:0.1.0 .` compiles everything and yields the agent, so that is the last
# target; `--target webhook` and `--target certs` yield the others. `--build-context build=DIR` puts ready binaries in the place of
# the first stage (tests/images.sh does that).

FROM rust:1.95 AS build
WORKDIR /source
COPY . .
# Static, because the images hold nothing but the program.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --target x86_64-unknown-linux-gnu --bins \
    && cp target/x86_64-unknown-linux-gnu/dist/agent target/x86_64-unknown-linux-gnu/dist/webhook target/x86_64-unknown-linux-gnu/dist/certs /

FROM scratch AS webhook
ARG REVISION=unknown
ENV PURE_CHAOS_REVISION=$REVISION
COPY --from=build /webhook /webhook
USER 65532:65532
ENTRYPOINT ["/webhook"]
CMD ["run"]

FROM scratch AS certs
ARG REVISION=unknown
ENV PURE_CHAOS_REVISION=$REVISION
COPY --from=build /certs /certs
USER 65532:65532
ENTRYPOINT ["/certs"]
CMD ["run"]

FROM scratch AS agent
ARG REVISION=unknown
ENV PURE_CHAOS_REVISION=$REVISION
COPY --from=build /agent /agent
USER 65532:65532
ENTRYPOINT ["/agent"]
# So that `kubectl create cronjob --image=…` needs no arguments; the Deployment says `run`.
CMD ["once"]

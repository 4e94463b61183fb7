# The image where `tracecheck image build` cannot make it from the running program (macOS, Windows) and for releases:
# the same files, from a build inside. No shell, no package manager, a user without rights.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked \
 && target/dist/tracecheck image build --output /tmp/image.tar \
 && mkdir /image /files \
 && tar -xf /tmp/image.tar -C /image \
 && layer=$(sed -n 's/.*"Layers":\["\([^"]*\)"\].*/\1/p' /image/manifest.json) \
 && tar -xf "/image/$layer" -C /files

FROM scratch
COPY --from=build /files /
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/tracecheck"]

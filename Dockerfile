# The same images as `cargo xtask image` makes, with docker:
#   docker build --target node -t localhost/appsockets-node:0.1.0 .
#   docker build --target operator -t localhost/appsockets-operator:0.1.0 .
FROM rust:1.95-bookworm AS build
WORKDIR /appsockets
COPY . .
RUN cargo build --release --locked --package appsockets-node --package appsockets-operator

FROM gcr.io/distroless/cc-debian12:nonroot AS node
COPY --from=build /appsockets/target/release/appsockets-node /usr/bin/appsockets-node
USER 65532:65532
ENTRYPOINT ["/usr/bin/appsockets-node"]

FROM gcr.io/distroless/cc-debian12:nonroot AS operator
COPY --from=build /appsockets/target/release/appsockets-operator /usr/bin/appsockets-operator
USER 65532:65532
ENTRYPOINT ["/usr/bin/appsockets-operator"]

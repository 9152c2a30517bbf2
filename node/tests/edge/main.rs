//! The sockets of a worker, from outside: real clients against real listeners on loopback.

#[path = "../tls/certificate.rs"]
mod certificate;
mod life;
mod pressure;
mod reader;
mod sse;
mod support;
mod websocket;

/// Whether the server speaks TLS: `edge_secured` has the same tests with it.
const SECURED: bool = false;

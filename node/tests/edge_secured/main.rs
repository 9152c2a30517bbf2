//! The same as the tests of `edge`, over TLS.

#[path = "../tls/certificate.rs"]
mod certificate;
mod handshakes;
#[path = "../edge/pressure.rs"]
mod pressure;
#[path = "../edge/sse.rs"]
mod sse;
#[path = "../edge/support.rs"]
mod support;
#[path = "../edge/websocket.rs"]
mod websocket;

const SECURED: bool = true;

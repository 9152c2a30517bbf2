//! The sockets of a worker, from outside: real clients against real listeners on loopback.

mod life;
mod pressure;
mod reader;
mod sse;
mod support;
mod websocket;

//! A node that speaks TLS, and its listeners.

mod certificate;
mod listeners;
mod reload;
mod server;

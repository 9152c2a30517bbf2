//! The two wire formats of the client protocol, between bytes and the core's requests and events.

/// Chosen by WebSocket subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `appsockets.v1.protobuf`: binary WebSocket messages.
    Protobuf,
    /// `appsockets.v1.json`: text WebSocket messages.
    Json,
}

impl Format {
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Format::Protobuf => "appsockets.v1.protobuf",
            Format::Json => "appsockets.v1.json",
        }
    }
}

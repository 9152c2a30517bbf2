//! Events as the bytes that a connection is sent, framing included.

use appsockets_core::{session::event::Event, shard::delivery::Delivery};
use bytes::Bytes;

use crate::{
    codec::{self, Format},
    edge::{
        Transport,
        ws::{Opcode, write_frame},
    },
};

/// How one connection's bytes are made. What is sent to many is made once for each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
    Sse,
}

impl Encoding {
    pub const COUNT: usize = 3;

    pub fn of(transport: Transport) -> Encoding {
        match transport {
            Transport::WebSocket(Format::Protobuf) => Encoding::Protobuf,
            Transport::WebSocket(Format::Json) => Encoding::Json,
            Transport::Sse => Encoding::Sse,
        }
    }

    /// What the client's own messages are in; `None` if it can send none.
    pub fn format(self) -> Option<Format> {
        match self {
            Encoding::Protobuf => Some(Format::Protobuf),
            Encoding::Json => Some(Format::Json),
            Encoding::Sse => None,
        }
    }

    pub fn event(self, event: &Event) -> Bytes {
        let mut bytes = Vec::new();
        self.wrap(&mut bytes, |format, message| codec::encode(format, event, message));
        // Tools that know no events answer the frame, and any frame counts.
        if *event == Event::Ping && self != Encoding::Sse {
            write_frame(Opcode::Ping, &[], &mut bytes);
        }
        bytes.into()
    }

    /// All messages of a delivery, joined.
    pub fn delivery(self, delivery: &Delivery) -> Bytes {
        let mut bytes = Vec::new();
        for message in &delivery.messages {
            self.wrap(&mut bytes, |format, encoded| {
                codec::encode_message(format, &delivery.key.channel, message, false, encoded);
            });
        }
        bytes.into()
    }

    fn wrap(self, bytes: &mut Vec<u8>, encode: impl FnOnce(Format, &mut Vec<u8>)) {
        let mut message = Vec::with_capacity(256);
        match self {
            Encoding::Protobuf => {
                encode(Format::Protobuf, &mut message);
                write_frame(Opcode::Binary, &message, bytes);
            }
            Encoding::Json => {
                encode(Format::Json, &mut message);
                write_frame(Opcode::Text, &message, bytes);
            }
            Encoding::Sse => {
                encode(Format::Json, &mut message);
                codec::sse_block(&message, bytes);
            }
        }
    }
}

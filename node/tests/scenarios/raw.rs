//! A WebSocket without a library, for clients that do not behave as libraries do.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::in_time;

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// Answers nothing by itself.
pub struct Raw {
    pub stream: TcpStream,
}

/// A frame of the server: never masked, never in parts.
#[derive(Debug)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Raw {
    pub async fn open(address: SocketAddr, hub: &str) -> Raw {
        let stream = TcpStream::connect(address).await.unwrap();
        Raw::open_on(stream, address, hub).await
    }

    /// On a connection that was made with options of its own.
    pub async fn open_on(mut stream: TcpStream, address: SocketAddr, hub: &str) -> Raw {
        let request = format!(
            "GET /hubs/{hub}/ws HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        in_time(stream.write_all(request.as_bytes())).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(in_time(stream.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        Raw { stream }
    }

    /// Sends a whole frame, masked with zeros, which leave it readable.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        in_time(self.stream.write_all(&frame)).await.unwrap();
    }

    /// The next frame; none at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        in_time(self.stream.read_exact(&mut head)).await.ok()?;
        let length = match head[1] {
            126 => u64::from(in_time(self.stream.read_u16()).await.ok()?),
            127 => in_time(self.stream.read_u64()).await.ok()?,
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        in_time(self.stream.read_exact(&mut payload)).await.ok()?;
        Some(Frame { opcode: head[0] & 0xf, payload })
    }
}

impl Frame {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == CLOSE);
        code.map(|code| u16::from_be_bytes(*code))
    }
}

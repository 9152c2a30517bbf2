//! A WebSocket, and conversations as docs/protocol.md writes them.

use std::net::TcpStream;

use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket, client::IntoClientRequest, stream::MaybeTlsStream};

use super::{
    like::{assert_like, example},
    shell::DEADLINE,
};

/// What a client keeps: its connection, and what came and was not looked at.
pub struct Socket {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    unread: Vec<Value>,
}

impl Socket {
    pub fn connect(url: &str, subprotocol: Option<&str>) -> Socket {
        let mut request = url.into_client_request().unwrap();
        if let Some(subprotocol) = subprotocol {
            request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
        }
        let (socket, _) = tungstenite::connect(request).unwrap();
        let MaybeTlsStream::Plain(stream) = socket.get_ref() else { panic!("{url} is not plain") };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Socket { socket, unread: Vec::new() }
    }

    pub fn send(&mut self, line: &str) {
        self.socket.send(line.into()).unwrap();
    }

    /// The first message that is so and was not taken before: answers may overtake each other.
    pub fn next_that(&mut self, is_so: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unread.iter().position(&is_so) {
            return self.unread.remove(at);
        }
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            if is_so(&message) {
                return message;
            }
            self.unread.push(message);
        }
    }

    pub fn next(&mut self, event: &str) -> Value {
        self.next_that(|message| message["event"] == event)["payload"].take()
    }

    /// Says what the lines with `>` say, and hears what those with `<` do. Gives the number of lines.
    pub fn follow(&mut self, conversation: &str) -> usize {
        let lines = joined(conversation);
        for line in &lines {
            match line.split_at(2) {
                ("> ", said) => self.send(said),
                ("< ", heard) => {
                    let example = example(heard);
                    let answer = self.next_that(|message| message["event"] == example["event"]);
                    assert_like(&example, &answer);
                }
                _ => panic!("nobody says this: {line}"),
            }
        }
        lines.len()
    }
}

/// The lines, each with those that continue it.
fn joined(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with("  ") => *last += line.trim_start(),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

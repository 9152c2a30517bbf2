//! What is on the wire, written down: a change of these bytes breaks clients that are out there.

use std::fmt::Write;

use appsockets_core::{
    message::{Form, Payload},
    session::request::{Credentials, PublishInfo, Request},
};

use super::{client, examples};
use crate::codec::{Format, decode, encode};

const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn every_example_is_written_as_it_was() {
    let mut text =
        GOLDEN.lines().take_while(|line| line.starts_with('#')).fold(String::new(), |text, line| text + line + "\n");
    for (name, request) in examples::requests() {
        block(&mut text, "request", name, |format| client::encode(format, &request));
    }
    for (name, event) in examples::events() {
        block(&mut text, "event", name, |format| {
            let mut out = Vec::new();
            encode(format, &event, &mut out);
            out
        });
    }
    assert!(text == GOLDEN, "golden.txt differs from:\n{text}");
}

#[test]
fn every_written_request_is_read() {
    for (name, request) in examples::requests() {
        assert_eq!(decode(Format::Json, &written(name, "json")).as_ref(), Ok(&request), "{name}");
        assert_eq!(decode(Format::Protobuf, &written(name, "protobuf")), Ok(in_binary(request)), "{name}");
    }
}

/// Binary has no forms of payloads.
fn in_binary(request: Request) -> Request {
    let detect = |payload: Payload| Payload { form: Form::Detect, ..payload };
    match request {
        Request::Auth { req_id, credentials: Credentials::Opaque(payload) } => {
            Request::Auth { req_id, credentials: Credentials::Opaque(detect(payload)) }
        }
        Request::Publish(publishes) => {
            let publish = |info: PublishInfo| PublishInfo { payload: detect(info.payload), ..info };
            Request::Publish(publishes.into_iter().map(publish).collect())
        }
        other => other,
    }
}

fn written(name: &str, format: &str) -> Vec<u8> {
    let block = GOLDEN.split("\n\n").find(|block| block.starts_with(&format!("request {name}\n"))).expect("a block");
    let line = block.lines().find_map(|line| line.strip_prefix(format)).expect("a line").trim_start();
    if format == "json" { line.as_bytes().to_vec() } else { bytes(line) }
}

fn block(text: &mut String, kind: &str, name: &str, encoded: impl Fn(Format) -> Vec<u8>) {
    let json = String::from_utf8(encoded(Format::Json)).expect("JSON is text");
    let protobuf = hex(&encoded(Format::Protobuf));
    write!(text, "\n{kind} {name}\njson {json}\nprotobuf {protobuf}\n").expect("a String takes everything");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

//! `docs/protocol.md` says what is so: its examples are read, and its numbers are those of the `.proto` file.

use appsockets_proto::client::EventType;

use crate::codec::{Format, decode, decode_publishes};

const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

#[test]
fn the_examples_of_requests_are_read() {
    let examples: Vec<_> = DOCUMENT.lines().filter_map(|line| line.strip_prefix("> ")).collect();
    assert!(examples.len() >= 5);
    for example in examples {
        assert!(decode(Format::Json, example.as_bytes()).is_ok(), "{example}");
    }
    let body = DOCUMENT.lines().find(|line| line.starts_with("{\"publishes\"")).expect("an example of a body");
    assert!(decode_publishes(body.as_bytes()).is_ok(), "{body}");
}

#[test]
fn the_example_in_binary_is_the_one_in_json() {
    let spaced = "08 20 12 08 12 06 0a 04 6e 65 77 73";
    let json = r#"{"event":"Subscribe","payload":{"channels":[{"channel":"news"}]}}"#;
    assert!(DOCUMENT.contains(spaced) && DOCUMENT.contains(json));
    let binary: Vec<u8> = spaced.split(' ').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let request = decode(Format::Json, json.as_bytes());
    assert!(request.is_ok());
    assert_eq!(decode(Format::Protobuf, &binary), request);
}

#[test]
fn the_table_of_events_is_that_of_the_proto_file() {
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let number = rest.split(' ').next()?.parse::<i32>().ok()?;
        Some((number, name.to_lowercase()))
    };
    let written: Vec<_> = DOCUMENT.lines().filter_map(row).collect();
    let event = |number| {
        let name = EventType::try_from(number).ok()?.as_str_name();
        Some((number, name.trim_start_matches("EVENT_TYPE_").replace('_', "").to_lowercase()))
    };
    assert_eq!(written, (1..100).filter_map(event).collect::<Vec<_>>());
}

//! The frame reader against itself, however its input is split, and against tungstenite.
//!
//! Where the two differ on purpose: a length in more bytes than needed is refused by ours (RFC 6455, 5.2) and taken by
//! tungstenite, and the close code 1014 (in IANA's registry) is taken by ours and refused by tungstenite. Ours also fails
//! before a frame is whole, which the streams here can't show, because they consist of whole frames.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use appsockets_node::edge::ws::{Item, Kind, Reader, Violation};
use proptest::{collection::vec, prelude::*, sample::select, strategy::ValueTree};
use tokio_tungstenite::tungstenite::{
    Error, Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

const MESSAGE_BYTES_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// The connection ends with this code (none: with an empty close frame).
    End(Option<u16>),
}

/// What our reader makes of the parts.
fn read(parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<Seen> {
    let mut reader = Reader::new(MESSAGE_BYTES_MAX as u32);
    let mut seen = Vec::new();
    for mut part in parts {
        let mut input = part.as_mut_slice();
        loop {
            seen.push(match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Item::Message(kind, message))) => Seen::Message(kind, message.into()),
                Ok(Some(Item::Ping(payload))) => Seen::Ping(payload.into()),
                Ok(Some(Item::Pong)) => Seen::Pong,
                Ok(Some(Item::Close(code))) => Seen::End(code),
                Err(violation) => Seen::End(Some(violation.close_code())),
            });
            if let Some(Seen::End(_)) = seen.last() {
                return seen;
            }
        }
        assert!(input.is_empty(), "{} bytes are left", input.len());
    }
    seen
}

/// What tungstenite makes of the bytes.
fn read_by_tungstenite(bytes: Vec<u8>) -> Vec<Seen> {
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(None);
    let mut server = WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match server.read() {
            Ok(Message::Text(text)) => Seen::Message(Kind::Text, text.as_bytes().into()),
            Ok(Message::Binary(bytes)) => Seen::Message(Kind::Binary, bytes.into()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.into()),
            Ok(Message::Pong(_)) => Seen::Pong,
            Ok(Message::Close(frame)) => Seen::End(frame.map(|frame| frame.code.into())),
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return seen,
            Err(Error::Protocol(_)) => Seen::End(Some(1002)),
            Err(Error::Utf8(_)) => Seen::End(Some(1007)),
            Err(Error::Capacity(_)) => Seen::End(Some(1009)),
            Err(other) => panic!("{other}"),
        });
        if let Some(Seen::End(_)) = seen.last() {
            return seen;
        }
    }
}

/// Gives its bytes, then nothing more; swallows what is written.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => frame.push(masked | length as u8),
        length => {
            frame.push(masked | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend(mask.iter().flatten());
    frame.extend(payload.iter().zip(mask.unwrap_or_default().iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "\\PC{0,40}".prop_map(String::into_bytes),
        // Some are cut within a character.
        2 => ("[äß€𝄞]{1,60}", 0usize..4).prop_map(|(text, cut)| text.as_bytes()[..text.len() - cut.min(text.len())].into()),
        1 => vec(any::<u8>(), 0..20),
        1 => (400usize..1100).prop_map(|length| vec![b'x'; length]),
    ]
}

fn close_payload() -> impl Strategy<Value = Vec<u8>> {
    let codes = prop_oneof![
        select(vec![
            0u16, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1013, 1015, 1016, 2999, 3000, 4999, 5000
        ]),
        any::<u16>().prop_filter("told above", |code| *code != 1014),
    ];
    prop_oneof![
        Just(vec![]),
        vec(any::<u8>(), 1),
        (codes, "\\PC{0,10}").prop_map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat()),
        Just(vec![0x03, 0xe8, 0xff]),
    ]
}

/// One frame; mostly one that a client may send, at least where it may follow the one before.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        20 => select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x00, 0x80]),
        3 => select(vec![0x89u8, 0x8a]),
        1 => any::<u8>().prop_filter("close frames have payloads of their own", |first| first & 0x0f != 8),
    ];
    let mask = prop_oneof![40 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
    prop_oneof![
        30 => (first, mask, payload()).prop_map(|(first, mask, payload)| frame(first, mask, &payload)),
        1 => (any::<[u8; 4]>(), close_payload()).prop_map(|(mask, payload)| frame(0x88, Some(mask), &payload)),
    ]
}

/// Whole messages in fragments, with control frames between them.
fn fragmented() -> impl Strategy<Value = Vec<u8>> {
    let text = ("[aä€𝄞]{0,30}", vec((0usize..30, any::<[u8; 4]>(), any::<bool>()), 1..5));
    text.prop_map(|(text, cuts)| {
        let (mut rest, mut first, mut stream) = (text.as_bytes(), 0x01, Vec::new());
        for (length, mask, ping) in cuts {
            let (fragment, after) = rest.split_at(length.min(rest.len()));
            stream.extend(frame(first, Some(mask), fragment));
            if ping {
                stream.extend(frame(0x89, Some(mask), b"ping"));
            }
            (rest, first) = (after, 0x00);
        }
        stream.extend(frame(0x80, Some([1, 2, 3, 4]), rest));
        stream
    })
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![any_frame(), fragmented()], 0..12).prop_map(|frames| frames.concat())
}

fn split(bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let (mut rest, mut parts) = (bytes, Vec::new());
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at((*length).min(rest.len()));
        parts.push(part.to_vec());
        rest = after;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_split_says_the_same(stream in stream(), lengths in vec(1usize..50, 1..10)) {
        let whole = read([stream.clone()]);
        prop_assert_eq!(&read(split(&stream, &lengths)), &whole);
        prop_assert_eq!(&read(split(&stream, &[1])), &whole);
    }

    #[test]
    fn tungstenite_says_the_same(stream in stream()) {
        prop_assert_eq!(read([stream.clone()]), read_by_tungstenite(stream));
    }

    #[test]
    fn what_tungstenite_writes_is_read(messages in vec((any::<bool>(), "\\PC{0,300}"), 0..20), lengths in vec(1usize..400, 1..10)) {
        let messages: Vec<_> = messages
            .into_iter()
            .map(|(text, content)| if text { Message::text(content) } else { Message::binary(content) })
            .collect();
        let mut client = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Client, None);
        for message in &messages {
            client.send(message.clone()).unwrap();
        }
        let written = client.get_ref().get_ref().clone();
        let expected: Vec<_> = messages
            .into_iter()
            .map(|message| {
                let kind = if message.is_text() { Kind::Text } else { Kind::Binary };
                match message.len() {
                    0..=MESSAGE_BYTES_MAX => Seen::Message(kind, message.into_data().into()),
                    _ => Seen::End(Some(1009)),
                }
            })
            .collect();
        let end = expected.iter().position(|seen| matches!(seen, Seen::End(_))).map_or(expected.len(), |end| end + 1);
        prop_assert_eq!(read(split(&written, &lengths)), &expected[..end]);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..300), lengths in vec(1usize..50, 1..10)) {
        prop_assert_eq!(read(split(&bytes, &lengths)), read([bytes]));
    }
}

#[test]
fn the_streams_are_worth_reading() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut messages, mut ends) = (0, 0);
    for _ in 0..500 {
        let stream = stream().new_tree(&mut runner).unwrap().current();
        for seen in read([stream]) {
            match seen {
                Seen::Message(..) => messages += 1,
                Seen::End(_) => ends += 1,
                Seen::Ping(_) | Seen::Pong => {}
            }
        }
    }
    assert!(messages > 200 && ends > 50, "{messages} messages, {ends} ends");
}

#[test]
fn differs_from_tungstenite_on_purpose() {
    let long = [0x81, 0xfe, 0, 2, 0, 0, 0, 0, b'h', b'i'];
    assert_eq!(read([long.into()]), [Seen::End(Some(1002))]);
    assert_eq!(read_by_tungstenite(long.into()), [Seen::Message(Kind::Text, b"hi".into())]);
    let bad_gateway = frame(0x88, Some([0; 4]), &1014u16.to_be_bytes());
    assert_eq!(read([bad_gateway.clone()]), [Seen::End(Some(1014))]);
    assert_eq!(read_by_tungstenite(bad_gateway), [Seen::End(Some(1002))]);
}

#[test]
fn fails_before_the_frame_is_whole() {
    let violation = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        Reader::new(MESSAGE_BYTES_MAX as u32).next(&mut bytes.as_mut_slice()).err()
    };
    assert_eq!(violation(&[0x83, 0x80]), Some(Violation::Protocol), "an opcode that is none");
    assert_eq!(violation(&[0x81, 0xfe, 0x03, 0xe9, 0, 0, 0, 0]), Some(Violation::TooLarge), "by its declared length");
    assert_eq!(violation(&[0x81, 0x85, 0, 0, 0, 0, 0xff]), Some(Violation::Text), "by its first byte");
    assert_eq!(violation(&[0x81, 0x85, 0, 0, 0, 0, 0xe2, 0x82]), None, "more may follow");
}

//! What holds for every request and message, not only for the examples.

use std::sync::Arc;

use appsockets_core::{
    message::{Form, Message, Payload},
    serial::{Epoch, Serial},
    session::request::{Credentials, HistoryBound, HistoryQuery, PublishInfo, Recover, Request, SubscribeInfo},
};
use appsockets_proto::client::{ChannelPublish, Envelope, EventType};
use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::{collection::vec, option, prelude::*, sample::Index};
use prost::Message as _;
use serde_json::Value;

use super::client;
use crate::codec::{Format, decode, encode_message, sse_block};

const INTEGER_MAX: i64 = (1 << 53) - 1;

proptest! {
    #[test]
    fn a_request_comes_through_in_json(request in request(Format::Json)) {
        prop_assert_eq!(decode(Format::Json, &client::encode(Format::Json, &request)), Ok(request));
    }

    #[test]
    fn a_request_comes_through_in_protobuf(request in request(Format::Protobuf)) {
        prop_assert_eq!(decode(Format::Protobuf, &client::encode(Format::Protobuf, &request)), Ok(request));
    }

    #[test]
    fn any_bytes_are_read_or_refused(data: Vec<u8>) {
        for format in [Format::Json, Format::Protobuf] {
            if let Err(error) = decode(format, &data) {
                prop_assert!(error.detail.len() <= 200);
            }
        }
    }

    #[test]
    fn a_mutated_request_is_read_or_refused(
        request in prop_oneof![request(Format::Json), request(Format::Protobuf)],
        mutations in vec((any::<Index>(), any::<u8>(), 0..4u8), 1..8),
    ) {
        for format in [Format::Json, Format::Protobuf] {
            let data = mutate(client::encode(format, &request), &mutations);
            if let Err(error) = decode(format, &data) {
                prop_assert!(error.detail.len() <= 200);
            }
        }
    }

    #[test]
    fn a_message_is_written_as_the_generated_code_would(
        channel in name(), message in message(), retained: bool,
    ) {
        let mut out = b"before".to_vec();
        encode_message(Format::Protobuf, &channel, &message, retained, &mut out);
        prop_assert_eq!(&out[6..], generated(&channel, &message, retained));
    }

    #[test]
    fn a_message_is_read_back_from_json(channel in name(), message in message(), retained: bool) {
        let mut out = Vec::new();
        encode_message(Format::Json, &channel, &message, retained, &mut out);
        let value: Value = serde_json::from_slice(&out).expect("JSON");
        let read = &value["payload"];
        prop_assert_eq!(&value["event"], "Publish");
        prop_assert_eq!(&read["channel"], &*channel);
        prop_assert_eq!(&read["event"], &*message.event);
        prop_assert_eq!(&read["msgID"], &message.serial.to_string());
        prop_assert_eq!(&read["channelSerial"], &message.serial.to_string());
        prop_assert_eq!(read["ts"].as_u64(), Some(message.ts_ms));
        prop_assert_eq!(read.get("retained"), retained.then_some(&Value::Bool(true)));
        check_payload(read, &message.payload)?;
    }

    #[test]
    fn a_block_carries_its_text_whatever_its_line_breaks(text in "[a\r\n ]{0,40}|\\PC{0,20}") {
        let mut out = Vec::new();
        sse_block(text.as_bytes(), &mut out);
        let block = String::from_utf8(out).expect("text");
        let lines = block.strip_suffix("\n\n").expect("an empty line ends the block").split('\n');
        let data: Option<Vec<_>> = lines.map(|line| line.strip_prefix("data: ")).collect();
        prop_assert_eq!(data.expect("only data").join("\n"), text.replace("\r\n", "\n").replace('\r', "\n"));
    }

    #[test]
    fn a_payload_with_line_breaks_survives_a_block(value in json_value(), line_break in "\r|\n|\r\n") {
        let json = serde_json::to_string_pretty(&value).expect("JSON").replace('\n', &line_break);
        let mut out = Vec::new();
        sse_block(json.as_bytes(), &mut out);
        let data = String::from_utf8(out).expect("text").replace("data: ", "");
        prop_assert_eq!(serde_json::from_str::<Value>(&data).expect("JSON"), value);
    }
}

fn generated(channel: &str, message: &Message, retained: bool) -> Vec<u8> {
    let publish = ChannelPublish {
        channel: channel.to_owned(),
        event: message.event.to_string(),
        payload: message.payload.bytes.clone(),
        msg_id: message.serial.to_string(),
        timestamp: message.ts_ms as i64,
        channel_serial: Some(message.serial.to_string()),
        retained,
    };
    Envelope { event: EventType::Publish.into(), payload: publish.encode_to_vec().into() }.encode_to_vec()
}

/// Exactly one of the three, and the right one.
fn check_payload(read: &Value, payload: &Payload) -> Result<(), TestCaseError> {
    let bytes = &payload.bytes[..];
    let json = serde_json::from_slice::<Value>(bytes).ok();
    let text = std::str::from_utf8(bytes).ok();
    let expected = match (payload.form, json, text) {
        (Form::Json | Form::Detect, Some(json), _) => ("payload", json),
        (Form::Text | Form::Detect, _, Some(text)) => ("text", text.into()),
        _ => ("base64", BASE64_STANDARD.encode(bytes).into()),
    };
    let shown: Vec<_> = ["payload", "text", "base64"].into_iter().filter(|name| read.get(name).is_some()).collect();
    prop_assert_eq!(shown, [expected.0]);
    prop_assert_eq!(&read[expected.0], &expected.1);
    Ok(())
}

fn mutate(mut data: Vec<u8>, mutations: &[(Index, u8, u8)]) -> Vec<u8> {
    for (at, byte, kind) in mutations {
        let at = at.index(data.len() + 1);
        match kind {
            0 => data.insert(at, *byte),
            1 => data.truncate(at),
            2 => drop(data.drain(..at.min(data.len() / 4))),
            _ => data.iter_mut().skip(at).take(1).for_each(|old| *old ^= byte),
        }
    }
    data
}

fn request(format: Format) -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Pong),
        Just(Request::Close),
        (name(), vec(subscribe_info(format), 0..4)).prop_map(|(key, positions)| Request::Restore { key, positions }),
        (req_id(format), credentials(format)).prop_map(|(req_id, credentials)| Request::Auth { req_id, credentials }),
        vec(publish_info(format), 0..4).prop_map(Request::Publish),
        (req_id(format), vec(subscribe_info(format), 0..4))
            .prop_map(|(req_id, channels)| Request::Subscribe { req_id, channels }),
        (req_id(format), vec(name(), 0..4)).prop_map(|(req_id, channels)| Request::Unsubscribe { req_id, channels }),
        (integer(format), name(), bound(format), option::of(any::<u32>())).prop_map(
            |(req_id, channel, bound, limit)| Request::History(HistoryQuery { req_id, channel, bound, limit })
        ),
    ]
}

fn publish_info(format: Format) -> impl Strategy<Value = PublishInfo> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (option::of(integer(format)), name(), name(), payload(format), flags, option::of(name())).prop_map(
        |(req_id, channel, event, payload, (store, push, retain), key)| PublishInfo {
            req_id,
            channel,
            event,
            payload,
            store,
            push,
            retain,
            key,
        },
    )
}

fn credentials(format: Format) -> impl Strategy<Value = Credentials> {
    prop_oneof![payload(format).prop_map(Credentials::Opaque), name().prop_map(Credentials::Token)]
}

fn subscribe_info(format: Format) -> impl Strategy<Value = SubscribeInfo> {
    let recover = prop_oneof![
        Just(Recover::BadSerial),
        serial().prop_map(Recover::Serial),
        timestamp(format).prop_map(Recover::Timestamp),
    ];
    (name(), option::of(recover)).prop_map(|(channel, recover)| SubscribeInfo { channel, recover })
}

fn bound(format: Format) -> impl Strategy<Value = HistoryBound> {
    prop_oneof![
        Just(HistoryBound::Newest),
        Just(HistoryBound::Bad),
        timestamp(format).prop_map(HistoryBound::BeforeTimestamp),
        timestamp(format).prop_map(HistoryBound::AfterTimestamp),
        serial().prop_map(HistoryBound::BeforeSerial),
        serial().prop_map(HistoryBound::AfterSerial),
    ]
}

fn payload(format: Format) -> BoxedStrategy<Payload> {
    match format {
        Format::Protobuf => any::<Vec<u8>>().prop_map(|bytes| new_payload(bytes, Form::Detect)).boxed(),
        Format::Json => prop_oneof![
            json_text().prop_map(|text| new_payload(text, Form::Json)),
            name().prop_map(|text| new_payload(text.as_bytes().to_vec(), Form::Text)),
            any::<Vec<u8>>().prop_map(|bytes| new_payload(bytes, Form::Binary)),
        ]
        .boxed(),
    }
}

fn message() -> impl Strategy<Value = Message> {
    let detected = prop_oneof![any::<Vec<u8>>(), json_text(), name().prop_map(|text| text.as_bytes().to_vec())];
    let payload = prop_oneof![payload(Format::Json), detected.prop_map(|bytes| new_payload(bytes, Form::Detect))];
    let ts_ms = prop_oneof![Just(0), 0..1u64 << 8, 0..=i64::MAX as u64];
    (serial(), ts_ms, name(), payload).prop_map(|(serial, ts_ms, event, payload)| Message {
        serial,
        ts_ms,
        event,
        payload,
    })
}

fn new_payload(bytes: Vec<u8>, form: Form) -> Payload {
    Payload { bytes: bytes.into(), form }
}

/// Any text: names are judged elsewhere. Some long enough that their length takes two bytes.
fn name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![".{0,12}", "[a-z:]{0,12}", ".{100,300}"].prop_map(Arc::from)
}

fn serial() -> impl Strategy<Value = Serial> {
    any::<(u64, u64, u64, u64, u64)>().prop_map(|(view, node, generation, counter, sequence)| Serial {
        epoch: Epoch { view, node, generation, counter },
        sequence,
    })
}

fn integer(format: Format) -> BoxedStrategy<i64> {
    match format {
        Format::Protobuf => any::<i64>().boxed(),
        Format::Json => prop_oneof![-INTEGER_MAX..=INTEGER_MAX, Just(INTEGER_MAX), Just(-INTEGER_MAX)].boxed(),
    }
}

fn req_id(format: Format) -> impl Strategy<Value = Option<i64>> {
    integer(format).prop_map(|id| (id != 0).then_some(id))
}

fn timestamp(format: Format) -> impl Strategy<Value = u64> {
    integer(format).prop_map(i64::unsigned_abs).prop_filter("an int64", |ts| i64::try_from(*ts).is_ok())
}

/// JSON text as people write it, with white space inside but none around.
fn json_text() -> impl Strategy<Value = Vec<u8>> {
    (json_value(), any::<bool>()).prop_map(|(value, pretty)| {
        if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.expect("JSON")
    })
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let object = vec(("\\PC{0,4}", inner.clone()), 0..4);
        prop_oneof![vec(inner, 0..4).prop_map(Value::from), object.prop_map(|fields| fields.into_iter().collect())]
    })
}

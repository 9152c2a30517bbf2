//! Messages that are wrong in one way each, and what is told of them.

use appsockets_core::{
    code::ErrorCode,
    session::request::{HistoryBound, Recover, Request},
};
use appsockets_proto::client::{self, EventType};
use prost::Message;

use crate::codec::{DecodeError, Format, decode, decode_publishes};

fn json(text: &str) -> Result<Request, DecodeError> {
    decode(Format::Json, text.as_bytes())
}

fn protobuf(event: i32, payload: Vec<u8>) -> Result<Request, DecodeError> {
    decode(Format::Protobuf, &client::Envelope { event, payload: payload.into() }.encode_to_vec())
}

/// The code, the request id and a word of the detail.
#[track_caller]
fn check(result: Result<Request, DecodeError>, code: ErrorCode, req_id: Option<i64>, word: &str) {
    let error = result.expect_err("a refusal");
    assert_eq!((error.code, error.req_id), (code, req_id), "{error}");
    assert!(error.detail.contains(word), "{error}");
}

#[test]
fn what_is_wrong_in_json_is_told_with_its_place() {
    let cases = [
        ("", None, "envelope"),
        ("[]", None, "an object"),
        (r#"{"payload":{}}"#, None, "event"),
        (r#"{"event":"Pong","payload":3}"#, None, "an object"),
        (r#"{"event":"Pong"} x"#, None, "trailing"),
        (r#"{"event":"Pong","event":"Pong"}"#, None, "duplicate"),
        (r#"{"event":"Publish","payload":{"channel":"a"}}"#, None, "publishes"),
        (r#"{"event":"Publish","payload":{"publishes":[["a","b"]]}}"#, None, "an object"),
        (r#"{"event":"Publish","payload":{"publishes":[{"reqID":4}]}}"#, Some(4), "channel"),
        (r#"{"event":"Publish","payload":{"publishes":[{"reqID":4},{"reqID":5}]}}"#, None, "channel"),
        (r#"{"event":"Publish","payload":{"publishes":[{"channel":"a","payload":null,"text":""}]}}"#, None, "[0]"),
        (r#"{"event":"Publish","payload":{"publishes":[{"channel":"a"},{"channel":"a","base64":"A"}]}}"#, None, "[1]"),
        (r#"{"event":"Publish","payload":{"publishes":[{"channel":"a","base64":"AA"}]}}"#, None, "base64"),
        (r#"{"event":"Publish","payload":{"publishes":[{"channel":"a","reqID":1.5}]}}"#, None, "1.5"),
        (r#"{"event":"Publish","payload":{"publishes":[{"channel":"a","extra":{"store":1}}]}}"#, None, "boolean"),
        (r#"{"event":"Subscribe","payload":{"reqID":2}}"#, Some(2), "channels"),
        (r#"{"event":"Subscribe","payload":{"reqID":9007199254740992,"channels":[]}}"#, None, "2^53"),
        (r#"{"event":"Subscribe","payload":{"reqID":-9007199254740992,"channels":[]}}"#, None, "2^53"),
        (r#"{"event":"Subscribe","payload":{"reqID":2,"channels":["a"]}}"#, Some(2), "an object"),
        (r#"{"event":"History","payload":{"reqID":2,"channel":"a","limit":-1}}"#, Some(2), "-1"),
        (r#"{"event":"Auth","payload":{"reqID":3}}"#, Some(3), "exactly one"),
        (r#"{"event":"Auth","payload":{"reqID":3,"token":"t","text":""}}"#, Some(3), "exactly one"),
    ];
    for (text, req_id, word) in cases {
        check(json(text), ErrorCode::BadMessage, req_id, word);
    }
    check(decode(Format::Json, b"{\"event\":\"\xff\"}"), ErrorCode::BadMessage, None, "UTF-8");
}

#[test]
fn an_event_that_no_client_sends_is_unknown() {
    check(json(r#"{"event":"Rpc","payload":{"reqID":5}}"#), ErrorCode::UnknownEvent, Some(5), "Rpc");
    check(json(r#"{"event":"SessionInfo"}"#), ErrorCode::UnknownEvent, None, "SessionInfo");
    for event in [0, -1, 50, EventType::Ping.into(), EventType::SessionInfo.into()] {
        check(protobuf(event, Vec::new()), ErrorCode::UnknownEvent, None, &event.to_string());
    }
}

#[test]
fn what_is_wrong_in_protobuf_is_told_with_its_place() {
    check(decode(Format::Protobuf, b"\xff"), ErrorCode::BadMessage, None, "");
    // A channel that is not UTF-8, and one whose length is beyond the end.
    let subscribe = EventType::Subscribe.into();
    check(protobuf(subscribe, b"\x12\x03\x0a\x01\xff".to_vec()), ErrorCode::BadMessage, None, "channel");
    check(protobuf(subscribe, b"\x12\x7f\x0a\x01a".to_vec()), ErrorCode::BadMessage, None, "channels");
    let auth = |payload: Option<&'static [u8]>, token: Option<&str>| {
        let payload = payload.map(Into::into);
        let request = client::AuthRequest { req_id: 3, payload, token: token.map(Into::into) };
        protobuf(EventType::Auth.into(), request.encode_to_vec())
    };
    check(auth(None, None), ErrorCode::BadMessage, Some(3), "exactly one");
    check(auth(Some(b""), Some("t")), ErrorCode::BadMessage, Some(3), "exactly one");
}

#[test]
fn unknown_fields_are_ignored() {
    let known = json(r#"{"event":"Unsubscribe","payload":{"channels":["a"]}}"#);
    let newer = json(r#"{"v":[{}],"event":"Unsubscribe","payload":{"channels":["a"],"why":{"x":[1]},"why":null}}"#);
    assert_eq!(newer, known);
    // Field 15, a varint.
    assert_eq!(protobuf(EventType::Unsubscribe.into(), b"\x12\x01a\x78\x05".to_vec()), known);
}

#[test]
fn nulls_are_absent_but_for_a_payload() {
    let text = r#"{"event":"Publish","payload":{"publishes":[{"channel":"a","event":null,"payload":null,
        "text":null,"base64":null,"extra":{"store":null},"reqID":null,"key":null}]}}"#;
    let Ok(Request::Publish(publishes)) = json(text) else { panic!("a publish") };
    assert_eq!(publishes[0].payload.bytes, "null");
    assert_eq!(json(r#"{"event":"Pong","payload":null}"#), Ok(Request::Pong));
}

#[test]
fn a_serial_goes_before_a_timestamp_and_a_time_before_1970_is_1970() {
    let text = r#"{"event":"Subscribe","payload":{"channels":[{"channel":"a","timestamp":5,"channelSerial":"?"},
        {"channel":"b","timestamp":-5}]}}"#;
    let Ok(Request::Subscribe { channels, .. }) = json(text) else { panic!("a subscribe") };
    assert_eq!(channels[0].recover, Some(Recover::BadSerial));
    assert_eq!(channels[1].recover, Some(Recover::Timestamp(0)));
}

#[test]
fn two_bounds_of_a_page_are_bad() {
    let text = r#"{"event":"History","payload":{"channel":"a","beforeTs":5,"afterTs":1}}"#;
    let Ok(Request::History(query)) = json(text) else { panic!("a history request") };
    assert_eq!((query.bound, query.req_id), (HistoryBound::Bad, 0));
}

#[test]
fn deep_nesting_takes_no_stack() {
    let deep = |open: &str, close: &str| open.repeat(500_000) + "1" + &close.repeat(500_000);
    for nested in [deep("[", "]"), deep("{\"a\":", "}")] {
        let payload =
            format!(r#"{{"event":"Publish","payload":{{"publishes":[{{"channel":"a","payload":{nested}}}]}}}}"#);
        assert!(json(&payload).is_ok());
        assert_eq!(json(&format!(r#"{{"event":"Pong","payload":{{"x":{nested}}},"y":{nested}}}"#)), Ok(Request::Pong));
        check(json(&format!(r#"{{"event":"Pong","payload":{nested}"#)), ErrorCode::BadMessage, None, "");
        check(
            json(&format!(r#"{{"event":"Publish","payload":{{"publishes":{nested}}}}}"#)),
            ErrorCode::BadMessage,
            None,
            "",
        );
    }
    // Groups, which protobuf once had: the parser passes over them.
    check(protobuf(EventType::Pong.into(), [0x0b].repeat(500_000)), ErrorCode::BadMessage, None, "");
}

#[test]
fn a_body_is_a_batch_without_envelope() {
    let publishes = decode_publishes(br#"{"publishes":[{"channel":"a","event":"e","text":"x"}]}"#).expect("a batch");
    assert_eq!((&*publishes[0].channel, publishes[0].req_id), ("a", None));
    let error = decode_publishes(br#"{"publishes":[{"reqID":1}]}"#).expect_err("a refusal");
    assert_eq!((error.code, error.req_id), (ErrorCode::BadMessage, Some(1)));
    assert!(error.detail.starts_with("body"), "{error}");
}

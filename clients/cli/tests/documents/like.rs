//! Whether an answer is what a document shows.

use serde_json::Value;

/// Fields whose values are another one each time.
const ARBITRARY: [&str; 5] = ["sessionID", "restoreKey", "token", "ts", "msgID"];

/// The JSON of an example, in which `…` stands for whatever else there is.
pub fn example(text: &str) -> Value {
    let whole = text.replace(",…", "").replace("[…]", "[]");
    serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Panics unless the answer has every field of the example, with its value; of a serial the sequence counts.
#[track_caller]
pub fn assert_like(example: &Value, answer: &Value) {
    assert!(like(example, answer), "the document says\n{example}\nand the answer is\n{answer}");
}

fn like(example: &Value, answer: &Value) -> bool {
    match (example, answer) {
        (Value::Object(example), Value::Object(answer)) => example.iter().all(|(name, value)| {
            let arbitrary = ARBITRARY.contains(&name.as_str());
            answer.get(name).is_some_and(|answer| {
                if arbitrary { value.is_string() == answer.is_string() } else { like(value, answer) }
            })
        }),
        (Value::Array(example), Value::Array(_)) if example.is_empty() => true,
        (Value::Array(example), Value::Array(answer)) => {
            example.len() == answer.len() && example.iter().zip(answer).all(|(example, answer)| like(example, answer))
        }
        (Value::String(example), Value::String(_)) if example == "…" => true,
        (Value::String(example), Value::String(answer)) => sequence(example) == sequence(answer),
        _ => example == answer,
    }
}

/// Of a serial its sequence, of any other text all of it.
fn sequence(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((epoch, sequence)) if epoch.contains('-') && sequence.parse::<u64>().is_ok() => sequence,
        _ => text,
    }
}

#[test]
fn an_answer_may_have_more_than_the_example() {
    let like = |text: &str, answer: &str| super::like::like(&example(text), &serde_json::from_str(answer).unwrap());
    assert!(like(r#"{"a":{"channelSerial":"1-2:41"},…}"#, r#"{"a":{"channelSerial":"9-7-x:41"},"b":1}"#));
    assert!(like(r#"{"a":"…"}"#, r#"{"a":"x"}"#));
    assert!(like(r#"{"messages":[…],"sessionID":"s1"}"#, r#"{"messages":[1],"sessionID":"x"}"#));
    for (text, answer) in [
        (r#"{"channelSerial":"1-2:41"}"#, r#"{"channelSerial":"1-2:42"}"#),
        (r#"{"a":1}"#, "{}"),
        (r#"{"a":[1,2]}"#, r#"{"a":[1]}"#),
        (r#"{"sessionID":"s1"}"#, r#"{"sessionID":1}"#),
        (r#"{"a":"x"}"#, r#"{"a":"y"}"#),
    ] {
        assert!(!like(text, answer), "{text} {answer}");
    }
}

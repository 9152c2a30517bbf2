//! Payloads: where they come from, and their forms in JSON.

use std::io::{self, Read};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::fault::Fault;

/// The argument, or all of standard input where there is none or it is `-`.
pub fn read(argument: Option<String>) -> Result<Vec<u8>, Fault> {
    match argument {
        Some(text) if text != "-" => Ok(text.into_bytes()),
        _ => {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| Fault::usage(format!("standard input: {error}")))?;
            Ok(bytes)
        }
    }
}

/// The field in which the protocol's JSON has a payload, and what it holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Form<'a> {
    /// As it was written: a number may have more digits than a program keeps.
    Payload(Box<RawValue>),
    Text(&'a str),
    Base64(String),
}

impl Form<'_> {
    pub fn of(payload: &[u8]) -> Form<'_> {
        let Ok(text) = std::str::from_utf8(payload) else { return Form::Base64(STANDARD.encode(payload)) };
        match serde_json::from_str::<&RawValue>(text) {
            Ok(value) => Form::Payload(value.to_owned()),
            Err(_) => Form::Text(text),
        }
    }

    /// The same on one line.
    pub fn on_one_line(self) -> Self {
        let Form::Payload(value) = self else { return self };
        // In JSON these stand only between values, so it stays the same JSON.
        let line = value.get().replace(['\n', '\r'], " ");
        Form::Payload(RawValue::from_string(line).unwrap_or(value))
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn each_payload_has_the_most_readable_form() {
        for (payload, form) in [
            (&b"{\"a\":\n 1.50}\n"[..], r#"{"payload":{"a":  1.50}}"#),
            (b"null", r#"{"payload":null}"#),
            (b"hi {\n", r#"{"text":"hi {\n"}"#),
            (b"\"a\nb\"", r#"{"text":"\"a\nb\""}"#),
            (b"", r#"{"text":""}"#),
            (b"\x00\xff", r#"{"base64":"AP8="}"#),
        ] {
            assert_eq!(serde_json::to_string(&Form::of(payload).on_one_line()).unwrap(), form);
        }
    }
}

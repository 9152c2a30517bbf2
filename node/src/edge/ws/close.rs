//! The payload of close frames.

use bytes::Bytes;

use super::{HEADER_BYTES_MAX, Opcode, Violation, write_frame};

const REASON_BYTES_MAX: usize = 123;

/// A whole close frame; of the reason as many characters as fit into 123 bytes.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let payload = [&code.to_be_bytes()[..], reason].concat();
    frame(&payload)
}

/// The answer to a client's close frame: its code again, or none if it gave none.
pub(crate) fn close_answer(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => frame(&code.to_be_bytes()),
        None => frame(&[]),
    }
}

/// The code of a client's close frame, if it has one.
pub(super) fn parse_close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Violation::Protocol);
    }
    if simdutf8::basic::from_utf8(reason).is_err() {
        return Err(Violation::Text);
    }
    Ok(Some(code))
}

/// Whether an endpoint may put the code into a frame: those of the RFC and its registry, of libraries, of applications.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn frame(payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + HEADER_BYTES_MAX);
    write_frame(Opcode::Close, payload, &mut frame);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::close_frame;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close_frame(4000, &"ä".repeat(100));
        assert_eq!(frame[..4], [0x88, 124, 0x0f, 0xa0]);
        assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), "ä".repeat(61));
    }
}

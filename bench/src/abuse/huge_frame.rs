//! `huge-frame`: WebSocket frames that say they are 1 GB long, and messages whose fragments grow as large.

use std::time::{Duration, Instant};

use anyhow::Result;
use appsockets_proto::client::{Envelope, Error, EventType};
use prost::Message;

use super::{
    ABUSED, Scenario,
    crowd::Crowd,
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::{client::connect, frames, server::Server};

pub const SCENARIO: Scenario = Scenario {
    name: "huge-frame",
    // One message of the greatest length for each, fragments together, and what it is kept in until then.
    growth_max: CONNECTIONS * (2 * MESSAGE_BYTES_MAX) + (16 << 20),
    kept_max: 0,
    run,
    judge,
};

const CONNECTIONS: u64 = 500;
const MESSAGE_BYTES_MAX: u64 = 64 << 10;
const GIGABYTE: u64 = 1 << 30;
const FRAGMENT_BYTES: usize = 16 << 10;
/// As many as are certainly too many: the node must end it long before.
const FRAGMENTS_MAX: u64 = GIGABYTE / FRAGMENT_BYTES as u64;
const PAUSE: Duration = Duration::from_millis(100);
const TOO_LATE: Duration = Duration::from_secs(10);

/// The code of `message_too_large`, and of a WebSocket that ends for it.
const TOO_LARGE: u32 = 102;
const TOO_LARGE_CLOSE: u16 = 1009;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const FINAL: u8 = 0x80;
const CLOSE: u8 = 8 | FINAL;

fn run(server: &Server) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut crowd = meet(server)?;
    let mut huge = Vec::new();
    push_header(BINARY | FINAL, GIGABYTE, &mut huge);
    huge.resize(FRAGMENT_BYTES, 0);
    crowd.send(&huge);
    crowd.watch(Instant::now() + TOO_LATE)?;
    note(&crowd, &mut tally);

    let mut crowd = meet(server)?;
    let end = Instant::now() + TOO_LATE;
    for index in 0..FRAGMENTS_MAX {
        if crowd.open() == 0 || Instant::now() > end {
            break;
        }
        let mut fragment = Vec::new();
        push_header(if index == 0 { BINARY } else { CONTINUATION }, FRAGMENT_BYTES as u64, &mut fragment);
        fragment.resize(fragment.len() + FRAGMENT_BYTES, 0);
        crowd.send(&fragment);
        crowd.watch(Instant::now() + PAUSE)?;
    }
    note(&crowd, &mut tally);
    Ok(tally)
}

fn meet(server: &Server) -> Result<Crowd> {
    let mut crowd = Crowd::new()?;
    for _ in 0..CONNECTIONS {
        crowd.add(connect(server.address, &format!("/hubs/{ABUSED}/ws"))?.tcp)?;
    }
    Ok(crowd)
}

/// The beginning of a client's frame, with a mask of nothing.
fn push_header(first: u8, length: u64, out: &mut Vec<u8>) {
    const MASKED: u8 = 0x80;
    if let Ok(length) = u16::try_from(length) {
        out.extend_from_slice(&[first, MASKED | 126]);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.extend_from_slice(&[first, MASKED | 127]);
        out.extend_from_slice(&length.to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
}

fn note(crowd: &Crowd, tally: &mut Tally) {
    tally.add("opened", CONNECTIONS);
    tally.add("ended", crowd.ended.len() as u64);
    for ended in &crowd.ended {
        let (told, closed) = heard(&ended.input);
        tally.add("toldTooLarge", u64::from(told));
        tally.add("closed1009", u64::from(closed));
    }
}

/// Whether the error was told, and the code by which the WebSocket was closed.
fn heard(mut input: &[u8]) -> (bool, bool) {
    let (mut told, mut closed) = (false, false);
    while let Some(frame) = frames::first(input) {
        let payload = &input[frame.start..frame.end];
        match input[0] {
            CLOSE => closed |= payload.starts_with(&TOO_LARGE_CLOSE.to_be_bytes()),
            _ => told |= error_code(payload) == Some(TOO_LARGE),
        }
        input = &input[frame.end..];
    }
    (told, closed)
}

fn error_code(payload: &[u8]) -> Option<u32> {
    let envelope = Envelope::decode(payload).ok().filter(|envelope| envelope.event == EventType::Error as i32)?;
    Some(Error::decode(envelope.payload).ok()?.code)
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    let all = 2 * CONNECTIONS;
    vec![
        Check::at_least("clients told message_too_large", tally.get("toldTooLarge"), all),
        Check::at_least("connections closed with 1009", tally.get("closed1009"), all),
        Check::at_least("counted by the node as violated", metrics.get("connections_violated_total"), all),
    ]
}

//! What both formats make of the fields of a request.

use appsockets_core::{
    serial::Serial,
    session::request::{HistoryBound, Recover},
};

/// Where 0 and an absent request id are the same.
pub(super) fn req_id(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
}

/// The serial goes before the timestamp, because it is exact.
pub(super) fn recover(serial: Option<&str>, timestamp: Option<i64>) -> Option<Recover> {
    match (serial, timestamp) {
        (Some(serial), _) => Some(serial.parse().map_or(Recover::BadSerial, Recover::Serial)),
        (None, Some(timestamp)) => Some(Recover::Timestamp(unix_ms(timestamp))),
        (None, None) => None,
    }
}

/// The four bounds of a history request, of which at most one may be given.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    pub before_ts: Option<i64>,
    pub after_ts: Option<i64>,
    pub before_serial: Option<&'a str>,
    pub after_serial: Option<&'a str>,
}

impl Bounds<'_> {
    /// Bad if more than one is given, or one can't be read.
    pub fn bound(self) -> HistoryBound {
        let serial = |text: &str, bound: fn(Serial) -> HistoryBound| text.parse().map_or(HistoryBound::Bad, bound);
        let mut given = [
            self.before_ts.map(|ts| HistoryBound::BeforeTimestamp(unix_ms(ts))),
            self.after_ts.map(|ts| HistoryBound::AfterTimestamp(unix_ms(ts))),
            self.before_serial.map(|text| serial(text, HistoryBound::BeforeSerial)),
            self.after_serial.map(|text| serial(text, HistoryBound::AfterSerial)),
        ]
        .into_iter()
        .flatten();
        match (given.next(), given.next()) {
            (None, _) => HistoryBound::Newest,
            (Some(bound), None) => bound,
            (Some(_), Some(_)) => HistoryBound::Bad,
        }
    }
}

/// Nothing was stamped before 1970, so an earlier time asks for the same as its beginning.
fn unix_ms(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

//! Events and messages for people.

use appsockets_client::{ChannelPublish, Event, Position, PresenceMember};
use base64::{Engine, engine::general_purpose::STANDARD};

/// One event of a channel. What is no message begins with `#`.
pub fn event(event: &Event) -> String {
    match event {
        Event::Position(at) => format!("# {}", position(at)),
        Event::Message(message) => self::message(message),
        Event::Presence(members) => format!("# present: {}", people(members)),
        Event::Join(members) => format!("# came: {}", people(members)),
        Event::Leave(members) => format!("# left: {}", people(members)),
        Event::Occupancy(count) => format!("# subscribers: {count}"),
        Event::Ended(why) => format!("# ended: {why}"),
    }
}

/// Serial, time, event and payload.
pub fn message(message: &ChannelPublish) -> String {
    let serial = message.channel_serial.as_ref().unwrap_or(&message.msg_id);
    let event = if message.event.is_empty() { "-".to_owned() } else { plain(&message.event) };
    let mark = if message.retained { "  (retained)" } else { "" };
    format!("{serial}  {}  {event}  {}{mark}", time(message.timestamp), payload(&message.payload))
}

/// Session, user, since when, and what else is known.
pub fn member(member: &PresenceMember) -> String {
    let extra = member.extra.iter().map(|(name, value)| format!("  {}={}", plain(name), plain(value)));
    let session = plain(&member.session_id);
    format!("{session}  {}  since {}{}", user(member), time(member.since), extra.collect::<String>())
}

fn position(position: &Position) -> String {
    let serial = &position.channel_serial;
    match (position.recovered, &position.known_serial) {
        (None, _) => format!("begins after {serial}"),
        (Some(true), _) => format!("nothing is missing up to {serial}"),
        (Some(false), Some(known)) => format!("GAP: something may be missing after {known} and up to {serial}"),
        (Some(false), None) => format!("GAP: something may be missing up to {serial}"),
    }
}

fn people(members: &[PresenceMember]) -> String {
    let named: Vec<_> =
        members.iter().map(|member| format!("{} ({})", user(member), plain(&member.session_id))).collect();
    if named.is_empty() { "nobody".to_owned() } else { named.join(", ") }
}

fn user(member: &PresenceMember) -> String {
    if member.user_id.is_empty() { "anonymous".to_owned() } else { plain(&member.user_id) }
}

fn payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => plain(text),
        Err(_) => format!("base64:{}", STANDARD.encode(bytes)),
    }
}

/// Without control characters: what others have published must not command somebody's terminal.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

/// Unix milliseconds as date and time of day, UTC.
fn time(unix_ms: i64) -> String {
    let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Of a day since 1970, in the Gregorian calendar. Years are counted from March, so that the leap day is a year's last,
/// and in cycles of 400 years, which have 146,097 days each.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year_of_cycle + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::{plain, time};

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(time(unix_ms), text);
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_that_commands_it() {
        assert_eq!(plain("a\u{1b}[2J\nä\u{9b}"), "a\\u{1b}[2J\\nä\\u{9b}");
    }
}

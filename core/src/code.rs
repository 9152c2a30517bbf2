//! The two closed sets of what may go wrong: [`ErrorCode`] answers a request, [`CloseCode`] ends a session.
//!
//! `docs/protocol.md` prints both as tables, generated from here, so each line is written for the author of a client.

/// Declares a closed set of coded outcomes, each with its number, name, sentence and what to do about it.
macro_rules! codes {
    ($(#[$meta:meta])* $set:ident, $flag:ident; $($variant:ident = $code:literal, $name:literal, $value:literal, $message:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum $set { $($variant = $code,)* }

        impl $set {
            /// Every member, by number.
            pub const ALL: &[$set] = &[$($set::$variant,)*];

            /// The number that travels.
            pub const fn code(self) -> u16 { self as u16 }

            /// The name that travels; stable.
            pub const fn name(self) -> &'static str {
                match self { $($set::$variant => $name,)* }
            }

            /// A sentence that tells what to do.
            pub const fn message(self) -> &'static str {
                match self { $($set::$variant => $message,)* }
            }

            /// See the set's description.
            pub const fn $flag(self) -> bool {
                match self { $($set::$variant => $value,)* }
            }
        }
    };
}

/// Travels as its number, which stays when others come.
impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> u16 {
        code.code()
    }
}

impl TryFrom<u16> for ErrorCode {
    type Error = &'static str;

    fn try_from(number: u16) -> Result<ErrorCode, Self::Error> {
        ErrorCode::ALL.iter().copied().find(|code| code.code() == number).ok_or("no error has this number")
    }
}

codes! {
    /// Why a request was refused. `retry` tells whether the same request may work later without anyone changing it.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(into = "u16", try_from = "u16")]
    ErrorCode, retry;
    BadMessage = 100, "bad_message", false, "The message can't be read: send an envelope of the chosen subprotocol, as docs/protocol.md describes it.";
    UnknownEvent = 101, "unknown_event", false, "The event is not one that a client may send: see the list of events in docs/protocol.md.";
    MessageTooLarge = 102, "message_too_large", false, "The message is larger than the node accepts: split it, or ask the administrator for a higher limit.";
    RateLimited = 103, "rate_limited", true, "This session sends more messages per second than it may: slow down and try again.";
    HubRateLimited = 104, "hub_rate_limited", true, "The hub's sessions together send more messages per second than they may: try again later.";
    TooManyRequests = 105, "too_many_requests", true, "Too many requests of this session wait for an answer: wait for some of them first.";
    BadRequestId = 106, "bad_request_id", false, "This request needs a request id: give an integer other than 0.";
    Unsupported = 107, "unsupported", false, "This node does not offer the feature that was asked for.";

    BadChannel = 110, "bad_channel", false, "The channel's name is not valid: 1 to 255 bytes of UTF-8 without control characters.";
    ChannelDenied = 111, "channel_denied", false, "This session may not do that in this channel: authenticate, or ask for an authorization.";
    NotSubscribed = 112, "not_subscribed", false, "This session is not subscribed to the channel: subscribe first.";
    TooManyChannels = 113, "too_many_channels", false, "This session is subscribed to as many channels as the hub allows: unsubscribe from some first.";
    SubscriptionRevoked = 114, "subscription_revoked", false, "The channel's rules or this session's rights changed, and it may no longer subscribe to the channel.";
    BadSerial = 115, "bad_serial", false, "The channel serial can't be read: give one that the node has sent, <epoch>:<sequence>.";
    Uncertain = 116, "uncertain", true, "The channel's node is not certain of its state since others failed: messages may come late, and publishes are to be tried again.";
    TooFewNodes = 117, "too_few_nodes", true, "The cluster has too few nodes for the copies that the channel's rules require: publish again with the same key once it has more, or have the rules changed.";

    StoreNotAllowed = 120, "store_not_allowed", false, "The channel's rules do not allow stored messages: publish without store, or have the rules changed.";
    RetainNotAllowed = 121, "retain_not_allowed", false, "The channel's rules do not allow retained messages: publish without retain, or have the rules changed.";
    PushNotAllowed = 122, "push_not_allowed", false, "The channel's rules do not allow push messages: publish without push, or have the rules changed.";
    StoreFailed = 123, "store_failed", true, "The message could not be stored and was not delivered: publish it again with the same key.";
    BadKey = 124, "bad_key", false, "An idempotency key has 16 to 64 bytes: choose one at random for each message.";
    KeyConflict = 125, "key_conflict", false, "The idempotency key was used for another message of this channel: choose a new key at random.";
    TryAgain = 126, "try_again", true, "The channel can't take the request at this moment: try again, a publish with the same key.";
    HistoryFailed = 127, "history_failed", true, "The stored messages could not be read: try again.";
    BadEventName = 128, "bad_event_name", false, "The name of the event is too long: at most 255 bytes of UTF-8.";
    StoreUnavailable = 129, "store_unavailable", false, "Several nodes without a common database can't keep stored messages: publish without store, or have PostgreSQL configured.";

    AuthFailed = 130, "auth_failed", false, "The auth provider did not accept the credentials: get new ones.";
    AuthUnavailable = 131, "auth_unavailable", true, "The auth provider did not answer as it should: try again later.";
    AuthNotConfigured = 132, "auth_not_configured", false, "The hub has no auth provider for this kind of credentials: ask the administrator.";
    AuthInProgress = 133, "auth_in_progress", true, "An authentication of this session is under way: wait for its answer.";
    TokenInvalid = 134, "token_invalid", false, "The token is not valid for this hub: get a new one.";
    TokenExpired = 135, "token_expired", false, "The token has expired: get a new one.";
    NotAuthenticated = 136, "not_authenticated", false, "The hub takes only authenticated sessions: send Auth first.";

    HubNotFound = 140, "hub_not_found", false, "There is no hub of this name: have it created, or correct the name.";
    HubFull = 141, "hub_full", true, "The hub has as many connections as it may: try again later.";
    OriginDenied = 142, "origin_denied", false, "The hub does not allow pages of this origin: have the origin added to the hub's allowed origins.";
    RestoreFailed = 143, "restore_failed", false, "The session can't be restored: its key is unknown, was used, or the time to restore it has passed. Go on as a new session.";
    ManagedElsewhere = 144, "managed_elsewhere", false, "The resource is managed by another source of settings and can be changed only there.";
    ResourceInvalid = 145, "resource_invalid", false, "The resource is not valid: the message names the field.";
    NotFound = 146, "not_found", false, "There is nothing under this address: see docs/protocol.md for those that exist.";
    Unauthorized = 147, "unauthorized", false, "The request needs a token: send it as Authorization: Bearer TOKEN.";
    MethodNotAllowed = 148, "method_not_allowed", false, "This address does not take the request's method: the header Allow names those that it takes.";
    NodeFull = 149, "node_full", true, "The node has as many connections as it may: connect to another one, or try again later.";
    Internal = 199, "internal", true, "The node made a mistake, which it has logged: try again, and report it if it stays.";
}

codes! {
    /// Why a session was ended: WebSocket close codes of the private range. `reconnect` tells whether a client should
    /// connect again by itself (4000 to 4099) or only after somebody changed something (4100 to 4199).
    CloseCode, reconnect;
    Drained = 4000, "drained", true, "The node stops: connect again.";
    HeartbeatMissed = 4001, "heartbeat_missed", true, "Nothing was heard from the client in time: connect again.";
    TooSlow = 4002, "too_slow", true, "The client does not read what it is sent: connect again and read faster, or subscribe to less.";
    InternalError = 4010, "internal_error", true, "The node made a mistake, which it has logged: connect again.";
    HubClosed = 4100, "hub_closed", false, "The hub was removed.";
    AuthTimeout = 4101, "auth_timeout", false, "The hub takes only authenticated sessions, and this one did not authenticate in time.";
    AuthRefused = 4102, "auth_refused", false, "The hub takes only authenticated sessions, and the authentication failed.";
    AnonymousRefused = 4103, "anonymous_refused", false, "The hub no longer takes anonymous sessions: connect with a token.";
    ProtocolViolation = 4104, "protocol_violation", false, "The client broke the protocol again and again.";
    TokenExpired = 4105, "token_expired", false, "The token that the session was authenticated with has expired: authenticate again, with a new one, before it does.";
    Replaced = 4106, "replaced", false, "The session was restored by another connection, which now holds it.";
}

/// The table of the error codes in `docs/protocol.md`: all lines between its two markers.
pub fn error_table() -> String {
    let rows = ErrorCode::ALL.iter().map(|c| row(c.code(), c.name(), c.message(), c.retry()));
    table("try again", rows)
}

/// The table of the close codes in `docs/protocol.md`: all lines between its two markers.
pub fn close_table() -> String {
    let rows = CloseCode::ALL.iter().map(|c| row(c.code(), c.name(), c.message(), c.reconnect()));
    table("reconnect", rows)
}

fn table(flag: &str, rows: impl Iterator<Item = String>) -> String {
    let head = format!("| code | name | what it means and what to do | {flag} |\n| --- | --- | --- | --- |\n");
    std::iter::once(head).chain(rows).collect()
}

fn row(code: u16, name: &str, message: &str, flag: bool) -> String {
    // In Markdown an angle bracket would begin an element, and a bar the next cell.
    let message = message.replace('<', "\\<").replace('|', "\\|");
    format!("| {code} | `{name}` | {message} | {} |\n", if flag { "yes" } else { "no" })
}

#[cfg(test)]
mod tests {
    use super::{CloseCode, ErrorCode, close_table, error_table};

    #[test]
    fn the_document_holds_the_tables() {
        let document = include_str!("../../docs/protocol.md");
        for (name, table) in [("error codes", error_table()), ("close codes", close_table())] {
            let region = format!("<!-- generated: {name} -->\n{table}<!-- end -->\n");
            assert!(document.contains(&region), "docs/protocol.md should contain:\n{region}");
        }
    }

    #[test]
    fn numbers_rise_and_names_are_unique() {
        fn check(all: &[(u16, &str)]) {
            assert!(all.windows(2).all(|w| w[0].0 < w[1].0));
            let mut names: Vec<_> = all.iter().map(|c| c.1).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all.len());
        }
        check(&ErrorCode::ALL.iter().map(|c| (c.code(), c.name())).collect::<Vec<_>>());
        check(&CloseCode::ALL.iter().map(|c| (c.code(), c.name())).collect::<Vec<_>>());
    }

    #[test]
    fn the_range_of_a_close_code_tells_whether_to_reconnect() {
        for code in CloseCode::ALL {
            assert_eq!(code.reconnect(), code.code() < 4100, "{}", code.name());
        }
    }
}

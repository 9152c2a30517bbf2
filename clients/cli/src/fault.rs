//! Why a command has failed, and the exit code that says so.

use std::fmt;

use appsockets_client::{Client, End, Ended, Error, Failure};

/// What a shell learns of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Standard output was closed by who reads it: nobody is left to tell.
    Unread = 0,
    Refused = 1,
    Usage = 2,
    Unreachable = 3,
    /// Messages were lost, repeated or out of order.
    Broken = 4,
}

/// A failure, told in a sentence.
#[derive(Debug)]
pub struct Fault {
    pub exit: Exit,
    /// Where the server has refused with one of its codes.
    pub failure: Option<Failure>,
    text: String,
}

impl Fault {
    /// The command can't be done as it was given.
    pub fn usage(text: impl Into<String>) -> Fault {
        Fault { exit: Exit::Usage, failure: None, text: text.into() }
    }

    /// There is no server, or it does not answer.
    pub fn unreachable(text: impl Into<String>) -> Fault {
        Fault { exit: Exit::Unreachable, failure: None, text: text.into() }
    }

    /// The server refused without one of its codes.
    pub fn refused(text: impl Into<String>) -> Fault {
        Fault { exit: Exit::Refused, failure: None, text: text.into() }
    }

    /// The measurement found what must not be.
    pub fn broken(text: impl Into<String>) -> Fault {
        Fault { exit: Exit::Broken, failure: None, text: text.into() }
    }

    /// Who reads the output has gone.
    pub fn unread() -> Fault {
        Fault { exit: Exit::Unread, failure: None, text: String::new() }
    }

    /// Names what it is about.
    pub fn of(self, what: &str) -> Fault {
        Fault { text: format!("{what}: {}", self.text), ..self }
    }

    /// Why a request failed; where the client has ended, why that is.
    pub async fn asking(client: &Client, error: Error) -> Fault {
        if matches!(error, Error::Closed | Error::Unknown) {
            client.close().await;
            if let Some(end) = client.ended().filter(|end| **end != End::Closed) {
                return Fault::from(end.clone());
            }
        }
        Fault::from(error)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault { exit: Exit::Refused, text: failure.to_string(), failure: Some(failure) }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::Refused(failure) => failure.into(),
            Error::BadUrl(_) => Fault::usage(error.to_string()),
            Error::TooLarge => Fault::refused(error.to_string()),
            Error::Closed | Error::QueueFull | Error::Unknown => Fault::unreachable(error.to_string()),
        }
    }
}

impl From<End> for Fault {
    fn from(end: End) -> Fault {
        let failure = match &end {
            End::Refused(refusal) => refusal.failure.clone(),
            End::Credentials(failure) => Some(failure.clone()),
            End::Code { code, name, message } => {
                Some(Failure { code: u32::from(*code), name: name.clone(), message: message.clone(), retry: false })
            }
            End::Closed | End::Unreachable(_) => return Fault::unreachable(end.to_string()),
        };
        Fault { failure, ..Fault::refused(end.to_string()) }
    }
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Fault {
        match ended {
            Ended::Refused(failure) => failure.into(),
            Ended::AlreadySubscribed => Fault::usage(ended.to_string()),
            Ended::Client(end) => end.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

//! Requests that may be sent again whenever a connection broke: history and authentication.

use std::collections::BTreeMap;

use appsockets_proto::client::{AuthRequest, AuthResponse, EventType, HistoryRequest, HistoryResponse};

use super::{Answer, Bounds, Step};
use crate::{event::Error, options::Credentials};

#[derive(Debug, Default)]
pub struct Requests {
    by_id: BTreeMap<i64, Pending>,
}

#[derive(Debug)]
struct Pending {
    token: u64,
    kind: Kind,
    sent: bool,
}

#[derive(Debug)]
pub enum Kind {
    History(HistoryRequest),
    Auth(Credentials),
}

impl Requests {
    pub fn add(&mut self, req_id: i64, token: u64, kind: Kind, bounds: &Bounds, step: &mut Step<'_>) {
        if self.by_id.len() >= bounds.queue {
            return step.answer(token, Err(Error::QueueFull));
        }
        self.by_id.insert(req_id, Pending { token, kind, sent: false });
    }

    pub fn send(&mut self, bytes_max: usize, step: &mut Step<'_>) {
        self.by_id.retain(|&req_id, pending| {
            if pending.sent {
                return true;
            }
            pending.sent = match &pending.kind {
                Kind::History(request) => {
                    let request = HistoryRequest { req_id, ..request.clone() };
                    step.send_if_fits(EventType::History, &request, bytes_max)
                }
                Kind::Auth(credentials) => step.send_if_fits(EventType::Auth, &auth(req_id, credentials), bytes_max),
            };
            if !pending.sent {
                step.answer(pending.token, Err(Error::TooLarge));
            }
            pending.sent
        });
    }

    pub fn disconnected(&mut self) {
        self.by_id.values_mut().for_each(|pending| pending.sent = false);
    }

    pub fn page(&mut self, response: HistoryResponse, step: &mut Step<'_>) {
        let Some(pending) = self.by_id.remove(&response.req_id) else { return };
        let outcome = match response.error {
            Some(error) => Err(Error::Refused(error.into())),
            None => Ok(Answer::Page(response)),
        };
        step.answer(pending.token, outcome);
    }

    /// The credentials, if they were accepted.
    pub fn authenticated(&mut self, response: AuthResponse, step: &mut Step<'_>) -> Option<Credentials> {
        let Pending { token, kind: Kind::Auth(credentials), .. } = self.by_id.remove(&response.req_id)? else {
            return None;
        };
        if response.success {
            step.answer(token, Ok(Answer::Auth(response)));
            return Some(credentials);
        }
        step.answer(token, Err(Error::Refused(response.error.unwrap_or_default().into())));
        None
    }

    pub fn end(&mut self, step: &mut Step<'_>) {
        for pending in std::mem::take(&mut self.by_id).into_values() {
            step.answer(pending.token, Err(Error::Closed));
        }
    }
}

pub fn auth(req_id: i64, credentials: &Credentials) -> AuthRequest {
    match credentials {
        Credentials::Token(token) => AuthRequest { req_id, token: Some(token.clone()), payload: None },
        Credentials::Payload(payload) => AuthRequest { req_id, token: None, payload: Some(payload.clone()) },
    }
}

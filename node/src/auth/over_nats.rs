//! A provider that is asked over NATS: the same question and the same answer as over HTTP.

use std::{sync::Arc, time::Duration};

use appsockets_core::settings::{resource::NatsProviderSpec, subject};
use async_nats::{HeaderMap, HeaderName, HeaderValue, Message, Subject};
use bytes::Bytes;
use hyper::StatusCode;

use super::{
    fetch::{Answer, FetchError},
    provider::HEADERS_MAX,
};
use crate::nats::{Nats, NatsError};

/// How services of NATS tell that they failed (its ADR 32).
const FAILED: &str = "Nats-Service-Error";
/// Beside it stands the code, which is one of HTTP's where it means something to the one who asks.
const FAILED_CODE: &str = "Nats-Service-Error-Code";

/// [`NatsProviderSpec`], checked, but for its time.
pub struct OverNats {
    nats: Arc<Nats>,
    subject: Subject,
    headers: HeaderMap,
    body_bytes_max: usize,
}

impl OverNats {
    /// Fails with a sentence for the author of the settings.
    pub fn new(spec: &NatsProviderSpec, nats: Option<&Arc<Nats>>, body_bytes_max: usize) -> Result<Self, &'static str> {
        let nats = nats.ok_or("this node has no NATS: set nats.url in its configuration")?.clone();
        if !subject::is_subject(&spec.subject) {
            return Err("the subject is none that can be asked");
        }
        if !nats.config().auth_subjects.iter().any(|pattern| subject::matches(pattern, &spec.subject)) {
            return Err("the subject is none of nats.authSubjects, which the administrator allows");
        }
        let subject = spec.subject.as_str().into();
        Ok(OverNats { nats, subject, headers: headers(spec)?, body_bytes_max })
    }

    /// One attempt.
    pub async fn send(&self, body: Bytes, timeout: Duration) -> Result<Answer, FetchError> {
        let answer = self.nats.request(self.subject.clone(), self.headers.clone(), body, timeout).await?;
        if answer.payload.len() > self.body_bytes_max {
            return Err(FetchError::TooLarge);
        }
        Ok(Answer { status: status(&answer), body: answer.payload })
    }
}

impl From<NatsError> for FetchError {
    fn from(error: NatsError) -> Self {
        match error {
            NatsError::TimedOut => FetchError::TimedOut,
            NatsError::TooLarge => FetchError::Unsendable,
            NatsError::NotConnected | NatsError::NoResponders | NatsError::Failed(_) => {
                FetchError::Broken(error.to_string())
            }
        }
    }
}

fn headers(spec: &NatsProviderSpec) -> Result<HeaderMap, &'static str> {
    if spec.headers.len() > HEADERS_MAX {
        return Err("more than 32 headers");
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &spec.headers {
        let name: HeaderName = name.parse().map_err(|_| "the name of a header is not valid")?;
        let value: HeaderValue = value.parse().map_err(|_| "the value of a header is not valid")?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn status(answer: &Message) -> StatusCode {
    let header = |name: &str| answer.headers.as_ref().and_then(|headers| headers.get(name));
    match header(FAILED_CODE).map(|code| code.as_str().parse().ok().and_then(|code| StatusCode::from_u16(code).ok())) {
        // A failure is none that succeeded, whatever its code says.
        Some(Some(code)) if !code.is_success() => code,
        None if header(FAILED).is_none() => StatusCode::OK,
        Some(_) | None => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

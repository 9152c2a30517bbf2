//! Becoming somebody, and somebody else.

use std::sync::Arc;

use crate::{
    code::{CloseCode, ErrorCode},
    identity::Identity,
    session::{
        Context, Session,
        effect::Effect,
        event::{Authenticated, Event},
        request::Credentials,
    },
};

impl Session {
    pub(super) fn authenticate(&mut self, req_id: Option<i64>, credentials: Credentials, cx: &mut Context<'_>) {
        if self.authenticating.is_some() {
            return cx.tell(Event::Auth { req_id, outcome: Err(ErrorCode::AuthInProgress) });
        }
        self.authenticating = Some(req_id);
        cx.effects.push(Effect::Authenticate(credentials));
    }

    /// The outcome of [`Effect::Authenticate`], with a token for the HTTP interface.
    pub fn authenticated(&mut self, outcome: Result<(Arc<Identity>, Arc<str>), ErrorCode>, cx: &mut Context<'_>) {
        let Some(req_id) = self.authenticating.take() else { return };
        match outcome {
            Ok((identity, token)) => {
                cx.tell(Event::Auth { req_id, outcome: Ok(Authenticated { identity: identity.clone(), token }) });
                self.become_somebody(identity, cx);
            }
            Err(code) => {
                cx.tell(Event::Auth { req_id, outcome: Err(code) });
                // A provider that is away says nothing about the client, which may try again while it has time.
                if self.must_authenticate() && !code.retry() {
                    cx.end(CloseCode::AuthRefused);
                }
            }
        }
    }

    /// Starts the time within which a session must authenticate, where it must.
    pub(super) fn demand_authentication(&mut self, cx: &mut Context<'_>) {
        if !self.must_authenticate() {
            self.auth_until_ms = None;
        } else if self.auth_until_ms.is_none() {
            self.auth_until_ms = Some(cx.now.mono_ms + cx.config.auth_timeout_ms);
        }
    }

    fn must_authenticate(&self) -> bool {
        self.identity.is_none() && !self.hub.allow_anonymous
    }

    fn become_somebody(&mut self, identity: Arc<Identity>, cx: &mut Context<'_>) {
        let another_user = self.identity.as_ref().is_some_and(|before| before.user_id != identity.user_id);
        if another_user {
            self.leave_user_channel(cx);
        }
        let changed = self.identity.as_ref() != Some(&identity);
        self.identity = Some(identity);
        if changed {
            cx.effects.push(Effect::Changed);
        }
        self.auth_until_ms = None;
        self.revoke(cx);
        if changed {
            self.renew_presence(cx);
        }
        self.join_user_channel(cx);
    }
}

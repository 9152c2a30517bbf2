//! What the node says.

use appsockets_proto::client::{self as proto, AuthResponse, Envelope, EventType, Reconnect, SessionInfo};
use bytes::Bytes;
use prost::Message;

use super::{Machine, Phase, Step};
use crate::event::{End, Event};

impl Machine {
    /// What can't be read is passed over, as are events that are not known: a message lost so is seen as a gap.
    pub(super) fn received(&mut self, bytes: Bytes, step: &mut Step<'_>) {
        self.heard_ms = step.now_ms;
        let Ok(Envelope { event, payload }) = Envelope::decode(bytes) else { return };
        let Ok(event) = EventType::try_from(event) else { return };
        drop(self.take(event, payload, step));
    }

    fn take(&mut self, event: EventType, bytes: Bytes, step: &mut Step<'_>) -> Result<(), prost::DecodeError> {
        match event {
            EventType::Ping => step.send(EventType::Pong, &proto::Pong {}),
            EventType::Close => self.closed(proto::Close::decode(bytes)?, step),
            EventType::Error => self.failed(proto::Error::decode(bytes)?, step),
            EventType::Reconnect => {
                self.leave_ms = Some(step.now_ms + u64::from(Reconnect::decode(bytes)?.delay_ms));
            }
            EventType::SessionInfo => self.info(&SessionInfo::decode(bytes)?),
            EventType::SessionRestore => {
                let key = proto::SessionRestore::decode(bytes)?.restore_key;
                match self.phase {
                    Phase::Opening => self.restore(key, step),
                    _ => self.restore_key = Some(key),
                }
            }
            EventType::SessionRestored if self.phase == Phase::Restoring => {
                self.begin(proto::SessionRestored::decode(bytes)?, step);
            }
            EventType::Auth => self.authenticated(AuthResponse::decode(bytes)?, step),
            EventType::Ack => {
                for response in proto::ChannelPubResponse::decode(bytes)?.published {
                    self.publishes.answered(response, &self.bounds, step);
                }
            }
            EventType::History => self.requests.page(proto::HistoryResponse::decode(bytes)?, step),
            _ => return self.take_of_channel(event, bytes, step),
        }
        Ok(())
    }

    fn take_of_channel(
        &mut self,
        event: EventType,
        bytes: Bytes,
        step: &mut Step<'_>,
    ) -> Result<(), prost::DecodeError> {
        let channels = &mut self.channels;
        match event {
            EventType::Position => channels.position(proto::Position::decode(bytes)?, step),
            EventType::Publish => channels.message(proto::ChannelPublish::decode(bytes)?, step),
            EventType::Presence => {
                let proto::Presence { channel, members } = proto::Presence::decode(bytes)?;
                channels.tell(&channel, Event::Presence(members), step);
            }
            EventType::Join => {
                let proto::Join { channel, members } = proto::Join::decode(bytes)?;
                channels.tell(&channel, Event::Join(members), step);
            }
            EventType::Leave => {
                let proto::Leave { channel, members } = proto::Leave::decode(bytes)?;
                channels.tell(&channel, Event::Leave(members), step);
            }
            EventType::Occupancy => {
                let proto::Occupancy { channel, count } = proto::Occupancy::decode(bytes)?;
                channels.tell(&channel, Event::Occupancy(count), step);
            }
            EventType::Subscribe => {
                channels.answered(proto::SubscribeResponse::decode(bytes)?, &self.bounds, step);
            }
            EventType::Unsubscribe => {
                let response = proto::UnsubscribeResponse::decode(bytes)?;
                // One with a request id answers what the application has asked for.
                if response.req_id != 0 {
                    channels.left(response.req_id);
                    return Ok(());
                }
                for name in &response.unsubscribed_channels {
                    channels.refused(name, response.error.clone().unwrap_or_default(), &self.bounds, step);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn info(&mut self, info: &SessionInfo) {
        self.ping_interval_ms = u64::from(info.ping_interval_ms.max(1));
        self.message_bytes_max = info.max_message_size as usize;
    }

    fn closed(&mut self, close: proto::Close, step: &mut Step<'_>) {
        match u16::try_from(close.code) {
            Ok(code @ 4100..=4199) => {
                step.outputs.push(super::Output::Disconnect);
                self.end(End::Code { code, name: close.name, message: close.message }, step);
            }
            _ => self.give_up(step),
        }
    }

    /// Whatever the node refuses instead of restoring the session, the session is a new one.
    fn failed(&mut self, error: proto::Error, step: &mut Step<'_>) {
        if self.phase == Phase::Restoring && error.channel.is_none() {
            self.begin(proto::SessionRestored::default(), step);
        } else if let Some(req_id) = error.req_id {
            self.channels.leave_refused(req_id, &self.bounds, step);
        }
    }

    fn authenticated(&mut self, response: AuthResponse, step: &mut Step<'_>) {
        match self.phase {
            Phase::Authenticating { req_id } if req_id == response.req_id => {
                let error = response.error.unwrap_or_default();
                if response.success {
                    self.ready(step);
                } else if error.retry {
                    self.give_up(step);
                } else {
                    self.end(End::Credentials(error.into()), step);
                }
            }
            _ => {
                if let Some(credentials) = self.requests.authenticated(response, step) {
                    self.credentials = Some(credentials);
                }
            }
        }
    }
}

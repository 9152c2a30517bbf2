//! What sessions are told besides deliveries: outcomes of publishes, pages of history, and positions for SSE.

use appsockets_core::{
    channel::{ChannelKey, ChannelName},
    code::ErrorCode,
    fanout::Subscriber,
    serial::Serial,
    session::{
        event::{Event, HistoryPage},
        request::HistoryQuery,
    },
};

use super::{Engine, Mail, last_event_id};
use crate::edge::Outboxes;

/// Positions that are held for one SSE client, when they are too long to be told.
const HELD_MAX: usize = 16;

impl Engine {
    /// All outcomes of a session's publishes in one message.
    pub(super) fn tell_outcomes(&mut self, out: &mut Outboxes) {
        for subscriber in std::mem::take(&mut self.acked) {
            let Some(entry) = self.live_mut(subscriber) else { continue };
            let acks = std::mem::take(&mut entry.acks);
            self.tell(subscriber, &Event::Ack(acks), out);
        }
    }

    /// Pages are read one after the other, each when what waits for the client is within its bound again: a page alone
    /// may be larger than that.
    pub(super) fn read_history(&mut self, subscriber: Subscriber, query: HistoryQuery, out: &mut Outboxes) {
        let most = self.shared.session.pending_max;
        let Some(entry) = self.live_mut(subscriber) else { return };
        let pages = &mut entry.rare().pages;
        if pages.len() < most {
            pages.push_back(query);
            return self.read_next_page(subscriber, out);
        }
        let HistoryQuery { req_id, channel, .. } = query;
        self.tell(subscriber, &Event::History { req_id, channel, page: Err(ErrorCode::TooManyRequests) }, out);
    }

    pub(super) fn read_next_page(&mut self, subscriber: Subscriber, out: &mut Outboxes) {
        let Some(entry) = self.live_mut(subscriber) else { return };
        let (conn, hub) = (entry.conn, entry.session.hub().id.clone());
        let Some(rare) = entry.rare.as_mut().filter(|rare| !rare.reading) else { return };
        let Some(conn) = conn else { return rare.pages.clear() };
        if rare.pages.is_empty() || out.is_full(conn) {
            return;
        }
        let Some(query) = rare.pages.pop_front() else { return };
        rare.reading = true;
        let key = ChannelKey::new(hub, query.channel.clone());
        let limit = self.shared.page_limit(query.limit);
        let (shared, worker) = (self.shared.clone(), self.listener.worker);
        let reading = self.shared.read_history(key, query.bound, limit);
        self.shared.runtime.spawn(async move {
            let page = reading.await.unwrap_or(Err(ErrorCode::Internal));
            let HistoryQuery { req_id, channel, .. } = query;
            shared.post(worker, Mail::History { subscriber, req_id, channel, page }).await;
        });
    }

    pub(super) fn tell_history(
        &mut self,
        subscriber: Subscriber,
        req_id: i64,
        channel: ChannelName,
        page: Result<HistoryPage, ErrorCode>,
        out: &mut Outboxes,
    ) {
        if let Some(rare) = self.live_mut(subscriber).and_then(|entry| entry.rare.as_mut()) {
            rare.reading = false;
        }
        self.tell(subscriber, &Event::History { req_id, channel, page }, out);
        self.read_next_page(subscriber, out);
    }

    /// Tells SSE clients how far they have come, so that `Last-Event-ID` brings them back there.
    pub(super) fn tell_positions(&mut self, out: &mut Outboxes) {
        let mut moved = std::mem::take(&mut self.moved);
        moved.sort_unstable();
        moved.dedup();
        for subscriber in moved {
            let positions = self.positions(subscriber);
            let Some(entry) = self.live_mut(subscriber) else { continue };
            let Some(conn) = entry.conn else { continue };
            let key = entry.key.to_string();
            let id = last_event_id::told(&key, &positions).unwrap_or_else(|| {
                let rare = entry.rare();
                rare.held_number += 1;
                rare.held.push_back((rare.held_number, positions));
                if rare.held.len() > HELD_MAX {
                    rare.held.pop_front();
                }
                last_event_id::held(&key, rare.held_number)
            });
            out.reply(conn, format!("id: {id}\n\n").into());
        }
    }

    /// How far a session has come in each of its channels.
    pub(super) fn positions(&self, subscriber: Subscriber) -> Vec<(ChannelName, Serial)> {
        let Some(entry) = self.live(subscriber) else { return Vec::new() };
        let hub = &entry.session.hub().id;
        let reached = |channel: &ChannelName| {
            let key = ChannelKey::new(hub.clone(), channel.clone());
            Some((channel.clone(), self.fanout.position(&key, subscriber)?))
        };
        entry.session.channels().filter_map(reached).collect()
    }
}

//! What clients do, and what goes wrong, as chance has it.

use std::sync::Arc;

use appsockets_core::{
    message::{Form, Payload},
    session::request::{PublishInfo, Recover, Request, SubscribeInfo},
};

use crate::{client::Publishing, plan::Mode, process::Process, world::World};

impl World {
    /// Ten milliseconds in the life of clients.
    pub fn clients_act(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].at.is_none() {
                if self.chance.per_mille(60) {
                    self.reconnect(client);
                }
                continue;
            }
            if self.clients[client].restoring {
                continue;
            }
            for channel in std::mem::take(&mut self.clients[client].lacking) {
                self.ask_subscribe(client, channel);
            }
            match self.chance.below(1000) {
                0..150 => self.publish(client),
                150..190 => self.subscribe(client),
                190..205 => self.unsubscribe(client),
                205..212 if self.plan.mode != Mode::Planned => self.break_connection(client),
                212..215 => self.close(client),
                215..260 => self.repeat(client),
                _ => {}
            }
        }
    }

    pub fn channel(&mut self) -> Arc<str> {
        format!("c{}", self.chance.below(self.plan.channels as u64)).into()
    }

    /// Connects to some node, and subscribes again from where the client stands.
    pub fn reconnect(&mut self, client: usize) {
        let nodes: Vec<_> = self.processes.values().filter(|process| !process.leaving).map(|p| p.id.node).collect();
        let Some(node) = self.chance.pick(&nodes) else { return };
        let key = self.clients[client].restore_key.clone();
        self.connect(client, node);
        if self.clients[client].at.is_none() {
            return;
        }
        if let Some(key) = key.filter(|_| self.chance.per_mille(700)) {
            return self.ask_restore(client, key);
        }
        for channel in self.clients[client].wanted.clone() {
            self.ask_subscribe(client, channel);
        }
    }

    /// Asks for the session that the client had, wherever it is now.
    fn ask_restore(&mut self, client: usize, key: Arc<str>) {
        let this = &mut self.clients[client];
        this.restoring = true;
        let positions = this.runs.iter().map(|(channel, run)| SubscribeInfo {
            channel: channel.clone(),
            recover: Some(Recover::Serial(run.position)),
        });
        let positions = positions.collect();
        self.request(client, Request::Restore { key, positions });
    }

    pub fn ask_subscribe(&mut self, client: usize, channel: Arc<str>) {
        let this = &mut self.clients[client];
        let recover = this.runs.get(&channel).map(|run| Recover::Serial(run.position));
        let req_id = Some(this.next_req_id());
        this.wanted.insert(channel.clone());
        let channels = vec![SubscribeInfo { channel, recover }];
        self.request(client, Request::Subscribe { req_id, channels });
    }

    pub fn subscribe(&mut self, client: usize) {
        let channel = self.channel();
        if !self.clients[client].wanted.contains(&channel) {
            self.ask_subscribe(client, channel);
        }
    }

    fn unsubscribe(&mut self, client: usize) {
        let wanted: Vec<_> = self.clients[client].wanted.iter().cloned().collect();
        if wanted.is_empty() {
            return;
        }
        let channel = wanted[self.chance.below(wanted.len() as u64) as usize].clone();
        let this = &mut self.clients[client];
        this.wanted.remove(&channel);
        this.runs.remove(&channel);
        let req_id = Some(this.next_req_id());
        self.request(client, Request::Unsubscribe { req_id, channels: vec![channel] });
    }

    pub fn close(&mut self, client: usize) {
        let Some(at) = self.clients[client].at else { return };
        self.clients[client].disconnect();
        self.clients[client].restore_key = None;
        if let Some(process) = self.processes.get_mut(&at.node.node)
            && let Some(held) = process.workers[at.worker].held.get_mut(&at.subscriber)
        {
            held.client = None;
        }
        self.leave(at);
    }

    pub fn publish(&mut self, client: usize) {
        let channel = self.channel();
        self.publish_to(client, channel);
    }

    pub fn publish_to(&mut self, client: usize, channel: Arc<str>) {
        self.ids += 1;
        let (id, req_id) = (self.ids, self.clients[client].next_req_id());
        let key: Option<Arc<str>> = self.chance.per_mille(500).then(|| format!("key-of-16-bytes-{id}").into());
        self.send(client, req_id, Publishing { id, channel, key, order: Some(id) });
    }

    /// Repeats what was not answered, or refused for the moment.
    pub fn repeat(&mut self, client: usize) {
        let Some(publishing) = self.clients[client].repeats.pop() else { return };
        let req_id = self.clients[client].next_req_id();
        self.count("publishes repeated by clients");
        self.ledger.repeat(publishing.id);
        self.send(client, req_id, Publishing { order: None, ..publishing });
    }

    fn send(&mut self, client: usize, req_id: i64, publishing: Publishing) {
        let hub = self.clients[client].hub.clone();
        let text = format!("{} {hub}/{}", publishing.id, publishing.channel);
        let info = PublishInfo {
            req_id: Some(req_id),
            channel: publishing.channel.clone(),
            event: "e".into(),
            payload: Payload { bytes: text.into(), form: Form::Text },
            store: false,
            push: false,
            retain: publishing.id.is_multiple_of(4),
            key: publishing.key.clone(),
        };
        self.count("publishes");
        self.clients[client].publishes.insert(req_id, publishing);
        self.request(client, Request::Publish(vec![info]));
    }

    /// What goes wrong in ten milliseconds.
    pub fn faults_act(&mut self) {
        let faults = self.plan.faults;
        self.end_faults();
        let living = self.living();
        let Some(node) = self.chance.pick(&living) else { return };
        let Some(other) = self.chance.pick(&living).filter(|other| *other != node) else { return };
        let now_ms = self.now_ms;
        if faults.majority > 0 && self.chance.per_mille(faults.majority) {
            self.lose_majority();
        }
        if self.is_founded_anew() {
            if self.chance.per_mille(faults.break_link) {
                self.count("links broken");
                self.net.break_link(now_ms, node, other, &mut self.chance);
            }
            return;
        }
        if self.chance.per_mille(faults.crash) && self.may_crash() {
            self.count("crashes");
            return self.crash(node.node);
        }
        if self.chance.per_mille(faults.break_link) {
            self.count("links broken");
            self.net.break_link(now_ms, node, other, &mut self.chance);
        }
        if self.chance.per_mille(faults.cut) {
            self.cut();
        }
        if self.chance.per_mille(faults.pause) {
            let until_ms = now_ms + self.chance.between(20, 1_500);
            if let Some(process) = self.processes.get_mut(&node.node) {
                process.paused_until_ms.get_or_insert(until_ms);
                self.count("pauses");
            }
        }
        if self.chance.per_mille(faults.suspect) {
            let until_ms = now_ms + self.chance.between(50, 800);
            self.count("false death notices");
            for observer in self.living() {
                if self.chance.per_mille(700) {
                    self.suspected.insert((observer.node, node.node), until_ms);
                }
            }
        }
        if self.chance.per_mille(faults.leave) {
            self.begin_leave(node.node);
        }
    }

    /// Whether the end of this process leaves a copy of everything.
    pub fn may_crash(&self) -> bool {
        if self.plan.mode == Mode::Wild {
            return self.processes.len() > 1;
        }
        self.is_settled() && self.restart_ms.len() + 2 < self.plan.nodes as usize
    }

    /// Everything is in its place, nobody leaves, and nobody is about to be a member without knowing.
    pub fn is_settled(&self) -> bool {
        let newest = self.processes.values().max_by_key(|process| process.view_number());
        let living = self.living();
        let settled = newest.is_some_and(|process| {
            let view = process.views.view();
            let all_live = view.is_some_and(|view| view.members.iter().all(|member| living.contains(&member.id)));
            // One that joins may be in a view that is decided already and known to nobody.
            let joined = |process: &Process| !process.core || view.is_some_and(|view| view.contains(process.id));
            let all_joined = self.processes.values().all(joined);
            all_live && all_joined && process.views.settled() == process.view_number()
        });
        let leaving = self.processes.values().any(|process| process.leaving);
        settled && !leaving
    }

    fn cut(&mut self) {
        let now_ms = self.now_ms;
        let one_way = self.chance.per_mille(400);
        self.count(if one_way { "one-way cuts" } else { "cuts" });
        let side: Vec<_> = self.living().into_iter().filter(|_| self.chance.per_mille(400)).map(|id| id.node).collect();
        let others: Vec<_> = self.living().into_iter().map(|id| id.node).filter(|id| !side.contains(id)).collect();
        for from in &side {
            for to in &others {
                self.net.cuts.insert((*from, *to));
                self.cut_since.entry((*from, *to)).or_insert(now_ms);
                if !one_way {
                    self.net.cuts.insert((*to, *from));
                    self.cut_since.entry((*to, *from)).or_insert(now_ms);
                }
            }
        }
    }

    fn begin_leave(&mut self, node: u64) {
        let leaving = self.processes.values().any(|process| process.leaving);
        let enough = self.processes.values().filter(|process| process.core).count() > 2;
        // One that is about to join may be a member before it knows.
        let joined = |process: &Process| {
            let member = process.views.view().and_then(|view| view.member(process.id));
            member.is_some_and(|member| member.points == 8)
        };
        let joined = self.processes.get(&node).is_some_and(joined);
        if leaving || !enough || !joined || !self.restart_ms.is_empty() {
            return;
        }
        if let Some(process) = self.processes.get_mut(&node).filter(|process| process.core) {
            process.leaving = true;
            self.count("leaves");
        }
    }

    fn end_faults(&mut self) {
        let (now_ms, mend) = (self.now_ms, self.chance.per_mille(15));
        self.suspected.retain(|_, until_ms| *until_ms > now_ms);
        if mend {
            self.net.cuts.clear();
            self.cut_since.clear();
        }
        if self.chance.per_mille(5) {
            let node = self.chance.below(self.plan.nodes);
            let slow_ms = self.chance.below(100);
            if self.plan.mode != Mode::Planned {
                self.net.slow.insert(node, slow_ms);
            }
        }
        let leaving: Vec<_> = self.processes.values().filter(|process| process.leaving).map(|p| p.id).collect();
        for id in leaving {
            for client in 0..self.clients.len() {
                if self.clients[client].at.is_some_and(|at| at.node == id) && self.chance.per_mille(100) {
                    self.close(client);
                }
            }
            let empty = self.clients.iter().all(|client| client.at.is_none_or(|at| at.node != id));
            let out = self.processes.values().all(|process| {
                let view = process.views.view();
                view.is_some_and(|view| !view.contains(id) && process.views.settled() == view.number)
            });
            let held = |process: &Process| process.workers.iter().any(|worker| !worker.held.is_empty());
            if empty && out && !self.processes.get(&id.node).is_some_and(held) {
                self.count("nodes left");
                self.crash(id.node);
            }
        }
    }

    /// No more faults, and those that last end.
    pub fn mend(&mut self) {
        self.net.cuts.clear();
        self.net.slow.clear();
        self.cut_since.clear();
        self.suspected.clear();
        for process in self.processes.values_mut() {
            process.leaving = false;
            process.paused_until_ms = process.paused_until_ms.map(|until_ms| until_ms.min(self.now_ms));
        }
        let now_ms = self.now_ms;
        self.restart_ms.values_mut().for_each(|ms| *ms = (*ms).min(now_ms));
    }
}

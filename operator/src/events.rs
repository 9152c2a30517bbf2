//! What happened, for those who look at a resource's events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tracing::warn;

use crate::metrics::Metrics;

/// Events that wait to be written. Later ones are dropped, and counted.
const WAITING_MAX: usize = 1000;
/// The API server takes 1 kB.
const NOTE_BYTES_MAX: usize = 1000;

/// Where events go.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    metrics: Metrics,
}

/// What happened.
pub struct Note {
    kind: EventType,
    reason: &'static str,
    text: String,
}

impl Note {
    pub fn normal(reason: &'static str, text: &str) -> Note {
        Note { kind: EventType::Normal, reason, text: text.to_owned() }
    }

    pub fn warning(reason: &'static str, text: &str) -> Note {
        Note { kind: EventType::Warning, reason, text: text.to_owned() }
    }
}

impl Events {
    /// Events, and what writes them.
    pub fn new(client: Client, instance: String, metrics: Metrics) -> (Events, impl Future<Output = ()>) {
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(WAITING_MAX);
        let reporter = Reporter { controller: "appsockets.io/operator".to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client, reporter);
        let writing = async move {
            while let Some((event, about)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    warn!(%error, "An event was not written.");
                }
            }
        };
        (Events { queue, metrics }, writing)
    }

    pub fn about(&self, about: ObjectReference, note: Note) {
        let Note { kind, reason, mut text } = note;
        text.truncate(text.floor_char_boundary(NOTE_BYTES_MAX));
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(text),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if self.queue.try_send((event, about)).is_err() {
            self.metrics.events_dropped.inc();
        }
    }

    pub fn cluster(&self, cluster: &appsockets_crds::AppSocketsCluster, note: Note) {
        self.about(cluster.object_ref(&()), note);
    }

    pub fn pod(&self, namespace: &str, name: &str, uid: &str, note: Note) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        self.about(about, note);
    }
}

//! What is said of each resource.

/// What a resource is told, before anybody has looked at the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nodes ought to serve it.
    Wanted,
    /// It waits for what will come by itself.
    Waiting { reason: &'static str, message: String },
    /// Only a person can help.
    Stalled { reason: Reason, message: String },
}

/// Why only a person can help. A closed set: people filter by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It says what this operator does not understand.
    Undecodable,
    /// What it says can't be.
    Invalid,
    /// An older resource has the same identity.
    Conflict,
    ClusterNotFound,
    HubNotFound,
    RulesNotFound,
    /// The rules that it names are there, and can't be used.
    RulesNotServed,
    SecretNotFound,
    SecretNotReadable,
    /// The Secret is a cluster's.
    SecretReserved,
    /// What it refers to does not allow that.
    RefNotGranted,
    /// The hub that it belongs to is not served.
    HubNotServed,
    /// Nobody can say what its cluster ought to be, or the whole of its hubs.
    ClusterNotServed,
}

impl Reason {
    /// As it stands in a condition.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Undecodable => "Undecodable",
            Reason::Invalid => "Invalid",
            Reason::Conflict => "Conflict",
            Reason::ClusterNotFound => "ClusterNotFound",
            Reason::HubNotFound => "HubNotFound",
            Reason::RulesNotFound => "RulesNotFound",
            Reason::RulesNotServed => "RulesNotServed",
            Reason::SecretNotFound => "SecretNotFound",
            Reason::SecretNotReadable => "SecretNotReadable",
            Reason::SecretReserved => "SecretReserved",
            Reason::RefNotGranted => "RefNotGranted",
            Reason::HubNotServed => "HubNotServed",
            Reason::ClusterNotServed => "ClusterNotServed",
        }
    }
}

impl Verdict {
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Verdict {
        Verdict::Stalled { reason, message: message.into() }
    }

    pub fn is_stalled_by(&self, why: Reason) -> bool {
        matches!(self, Verdict::Stalled { reason, .. } if *reason == why)
    }
}

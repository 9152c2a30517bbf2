//! What may go wrong with settings, and what whoever asked is told.

use appsockets_core::{
    channel::HubId,
    code::ErrorCode,
    settings::{
        entry::{ResourceId, ResourceKind},
        problem::Problem,
        snapshot::ManagedElsewhere,
    },
};

use super::sqlite::WriteError;

/// Why a change was refused, or a hub not found.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the resource is not valid: {}", list(.0))]
    Invalid(Vec<Problem>),
    #[error(transparent)]
    Managed(#[from] ManagedElsewhere),
    #[error("there is no hub {0}: have it created, or correct the name")]
    HubNotFound(HubId),
    #[error("there is no {0}")]
    NotFound(ResourceId),
    #[error("there are {0} resources, as many as this node keeps: remove some, or have the limit raised")]
    TooManyResources(usize),
    #[error("{0} hubs were made for clients, as many as this node makes: remove some, or have the limit raised")]
    TooManyDynamicHubs(usize),
    #[error("the channel {channel} of hub {hub} has no metadata")]
    NoMetadata { hub: HubId, channel: String },
    #[error("metadata is a JSON object: {0}")]
    MetadataInvalid(String),
    #[error("metadata of a channel has at most {0} bytes: shorten it")]
    MetadataTooLarge(usize),
    #[error("{channels} channels of hub {hub} have metadata, as many as may have: remove that of some")]
    TooMuchMetadataOfHub { hub: HubId, channels: usize },
    #[error("{0} channels have metadata, as many as this node keeps: remove that of some")]
    TooMuchMetadata(usize),
    #[error("the database of settings failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Why a node can't begin with the settings that it was given.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the file of hubs can't be used: {}", list(.0))]
    File(Vec<Problem>),
    #[error("the settings of hubs that are made for clients can't be used: {}", list(.0))]
    Dynamic(Vec<Problem>),
    #[error("the database of settings failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl Refusal {
    /// What a client or an administrator is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Refusal::Invalid(_) | Refusal::TooManyResources(_) => ErrorCode::ResourceInvalid,
            Refusal::MetadataInvalid(_) | Refusal::TooMuchMetadataOfHub { .. } | Refusal::TooMuchMetadata(_) => {
                ErrorCode::ResourceInvalid
            }
            Refusal::MetadataTooLarge(_) => ErrorCode::MessageTooLarge,
            Refusal::Managed(_) => ErrorCode::ManagedElsewhere,
            Refusal::HubNotFound(_) | Refusal::TooManyDynamicHubs(_) => ErrorCode::HubNotFound,
            Refusal::NotFound(_) | Refusal::NoMetadata { .. } => ErrorCode::NotFound,
            Refusal::Database(_) => ErrorCode::Internal,
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::HubNotFound(hub) => Refusal::HubNotFound(hub),
            WriteError::NotFound(id) if id.kind == ResourceKind::Hub => Refusal::HubNotFound(id.hub),
            WriteError::NotFound(id) => Refusal::NotFound(id),
            WriteError::Database(error) => Refusal::Database(error),
        }
    }
}

/// In one line, for a log or an answer.
pub(super) fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join(" ")
}

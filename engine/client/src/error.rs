//! Why something cannot be sent.
//!
//! What a server says is [`Refusal`].

use corefold_shards::session::Refusal;
use corefold_shards::session::client::{ClientError, OfferError};
use std::sync::Arc;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server refuses for good.
    #[error("{server} refuses: {refusal}")]
    Refused {
        /// Which server.
        server: String,
        /// What it says.
        refusal: Refusal,
    },
    /// No progress for as long as the caller had patience.
    #[error("{server}: no progress for {seconds} s; the last reason: {reason}")]
    GaveUp {
        /// Which server.
        server: String,
        /// How long.
        seconds: u64,
        /// What went wrong last.
        reason: String,
    },
    /// The server has lost what it had acknowledged.
    #[error("{server}: {error}")]
    Lost {
        /// Which server.
        server: String,
        /// What is lost.
        error: ClientError,
    },
    /// TLS has not come about: whom to trust, or what to show, has to be mended first.
    #[error("{server}: {reason}")]
    Tls {
        /// Which server.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// A batch cannot be sent.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// Rows cannot become a batch.
    #[error("a batch cannot be made: {0}")]
    Encode(#[from] corefold_shards::batch::EncodeError),
    /// A row does not have the fields of the stream.
    #[error("a row does not fit the stream: {0}")]
    Row(&'static str),
    /// What the client was told makes no sense.
    #[error("the client's settings: {0}")]
    Settings(String),
    /// The client was closed, or is being closed.
    #[error("the client is closed: it takes nothing more")]
    Closed,
    /// The system has no thread or no socket left.
    #[error("a lane cannot be served: {0}")]
    System(#[from] std::io::Error),
    /// A lane cannot go on. Those who wait for it are all told the same.
    #[error("lane {lane}: {error}")]
    Lane {
        /// Its number.
        lane: u32,
        /// Why.
        error: Arc<SendError>,
    },
}

impl SendError {
    /// What is wrong, whichever lane it is about.
    pub fn root(&self) -> &SendError {
        match self {
            SendError::Lane { error, .. } => error.root(),
            error => error,
        }
    }
}

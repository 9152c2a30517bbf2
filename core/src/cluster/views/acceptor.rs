//! The voter's part of deciding one view.

use std::sync::Arc;

use crate::cluster::{
    view::View,
    views::message::{Ballot, Vote},
};

/// What this node has promised and accepted for the one number that is to be decided next.
#[derive(Debug, Default)]
pub struct Acceptor {
    promised: Option<Ballot>,
    accepted: Option<Vote>,
}

impl Acceptor {
    /// Promises the ballot and tells what was accepted, or names the higher ballot that was promised before.
    pub fn promise(&mut self, ballot: Ballot) -> Result<Option<Vote>, Ballot> {
        self.raise(ballot)?;
        Ok(self.accepted.clone())
    }

    /// Accepts the view, or names the higher ballot that was promised before.
    pub fn accept(&mut self, ballot: Ballot, view: &Arc<View>) -> Result<(), Ballot> {
        self.raise(ballot)?;
        self.accepted = Some(Vote { ballot, view: view.clone() });
        Ok(())
    }

    /// The highest round heard of.
    pub fn round(&self) -> u64 {
        self.promised.map_or(0, |promised| promised.round)
    }

    fn raise(&mut self, ballot: Ballot) -> Result<(), Ballot> {
        match self.promised {
            Some(promised) if promised > ballot => Err(promised),
            _ => {
                self.promised = Some(ballot);
                Ok(())
            }
        }
    }
}

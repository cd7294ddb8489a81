//! The owners of a table, each with all its requests.

use super::ids::OwnerId;
use super::queue::Queue;
use super::spread::BuildSpread;
use std::collections::HashMap;

/// The requests of every owner that has any. The owner who acted last is at hand without a look-up, because in a run of
/// calls it is mostly the same one.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    last: Option<OwnerId>,
    /// Of `last`; may be empty.
    lasts: Queue,
    /// All others; none of them is empty.
    others: HashMap<OwnerId, Queue, BuildSpread>,
}

impl Owners {
    /// The requests of `owner`, oldest first.
    pub(crate) fn requests_of(&mut self, owner: OwnerId) -> &mut Queue {
        if self.last != Some(owner) {
            let lasts = self.others.remove(&owner).unwrap_or_default();
            let before = std::mem::replace(&mut self.lasts, lasts);
            if let Some(last) = self.last.replace(owner)
                && !before.is_empty()
            {
                self.others.insert(last, before);
            }
        }
        &mut self.lasts
    }

    /// How many owners have requests.
    pub(crate) fn len(&self) -> usize {
        self.others.len() + usize::from(!self.lasts.is_empty())
    }
}

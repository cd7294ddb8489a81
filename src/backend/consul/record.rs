//! What a key says about who holds or waits: JSON for [`super::query`], and the sessions that a hand-over needs.

use crate::backend::{Ask, Identity, Info};
use crate::core::mode::Mode;
use serde::{Deserialize, Serialize};

/// The value of a ticket, of a reader's key, and of the leader key under an exclusive hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub owner: String,
    #[serde(with = "mode_name")]
    pub mode: Mode,
    /// The session of the owner's process that its leader keys are locked with; a releaser hands the lock over to it.
    pub leads: String,
    /// The key of the owner's process.
    pub process: String,
    pub host: String,
    pub pid: u32,
    pub thread: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub since: u64,
    /// On a leader key: since when the lock has gone from ticket to ticket, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbroken: Option<u64>,
}

/// Who occupies a locked leader key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    One(Box<Record>),
    /// The group of those whose keys are in `readers/`.
    Readers {
        unbroken: Option<u64>,
    },
    /// Somebody who does not say: 1.1.2, whose value is the word `leader`, or a person.
    Stranger,
}

/// The value of the leader key while readers are in. `entry` must be new each time: Consul does not count a write that
/// changes nothing, and whoever thinks that the readers are gone must find that the key was written.
pub fn readers(entry: &str, unbroken: Option<u64>) -> Vec<u8> {
    serde_json::json!({ "readers": entry, "unbroken": unbroken })
        .to_string()
        .into_bytes()
}

impl Record {
    pub fn new(ask: &Ask, identity: &Identity, leads: &str, process: &str) -> Self {
        Self {
            owner: ask.owner.0.to_string(),
            mode: ask.mode,
            leads: leads.to_owned(),
            process: process.to_owned(),
            host: identity.host.clone(),
            pid: identity.pid,
            thread: ask.thread,
            label: ask.label.as_deref().map(str::to_owned),
            since: ask.since,
            unbroken: None,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        // Text and numbers only: there is nothing that JSON could not take.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn parse(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    pub fn info(&self, token: Option<u64>) -> Info {
        Info {
            mode: self.mode,
            token,
            host: Some(self.host.clone()),
            pid: Some(self.pid),
            thread: Some(self.thread),
            label: self.label.clone(),
            since: Some(self.since),
        }
    }
}

impl Occupant {
    pub fn parse(value: &[u8]) -> Self {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Known {
            One(Box<Record>),
            Readers {
                #[serde(rename = "readers")]
                _entry: String,
                unbroken: Option<u64>,
            },
        }
        match serde_json::from_slice(value) {
            Ok(Known::One(record)) => Self::One(record),
            Ok(Known::Readers { unbroken, .. }) => Self::Readers { unbroken },
            Err(_) => Self::Stranger,
        }
    }

    /// Since when the lock has gone from ticket to ticket, if it came here from one.
    pub fn unbroken(&self) -> Option<u64> {
        match self {
            Self::One(record) => record.unbroken,
            Self::Readers { unbroken } => *unbroken,
            Self::Stranger => None,
        }
    }
}

mod mode_name {
    use crate::core::mode::Mode;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(mode: &Mode, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(mode.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
        let name = String::deserialize(from)?;
        [Mode::Exclusive, Mode::Shared]
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| D::Error::custom("neither exclusive nor shared"))
    }
}

//! What stands in the values of our keys: who waits or holds, as JSON, for whoever asks.

use crate::backend::{Ask, Identity, Info};
use crate::core::mode::Mode;
use serde::{Deserialize, Serialize};

/// The value of the main key while shared holds are in; who they are stands in their own keys. Constant, so that a
/// transaction can compare it.
pub const SHARED: &[u8] = b"{\"mode\":\"shared\"}";

/// One waiter or holder. The same ask always gives the same text, which therefore tells whose key it is.
#[derive(Serialize, Deserialize)]
struct Note {
    owner: String,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

/// The value of `ask`'s keys.
pub fn write(ask: &Ask, identity: &Identity) -> Vec<u8> {
    let note = Note {
        owner: ask.owner.0.to_string(),
        mode: ask.mode.name().to_owned(),
        host: Some(identity.host.clone()),
        pid: Some(identity.pid),
        thread: Some(ask.thread),
        label: ask.label.as_deref().map(str::to_owned),
        since: Some(ask.since),
    };
    // A struct of strings and numbers always has a JSON form; an empty value would only be anonymous.
    serde_json::to_vec(&note).unwrap_or_default()
}

/// How the waiter of this value wants the lock; `None` if the value is not ours.
pub fn mode(value: &[u8]) -> Option<Mode> {
    let note: Note = serde_json::from_slice(value).ok()?;
    match &*note.mode {
        "exclusive" => Some(Mode::Exclusive),
        "shared" => Some(Mode::Shared),
        _ => None,
    }
}

/// What the value tells, with `token` from the key's revision. A value that is not ours belongs to an exclusive holder of
/// whom nothing is known.
pub fn info(value: &[u8], token: Option<u64>) -> Info {
    match serde_json::from_slice::<Note>(value) {
        Ok(note) => Info {
            mode: if note.mode == "shared" {
                Mode::Shared
            } else {
                Mode::Exclusive
            },
            token,
            host: note.host,
            pid: note.pid,
            thread: note.thread,
            label: note.label,
            since: note.since,
        },
        Err(_) => Info {
            mode: Mode::Exclusive,
            token: None,
            host: None,
            pid: None,
            thread: None,
            label: None,
            since: None,
        },
    }
}

//! What a JavaScript environment is told, and in which form. The numbers are those of `lib/port.js`.

use super::raw::{Js, Value};
use crate::error::Error;
use crate::runtime::{Info, Snapshot, Snapshots};
use serde_json::{Map, json};
use std::sync::Arc;

/// One answer or piece of news for one environment; the first number is the call, request, mutex or waiter that it is for.
#[derive(Debug)]
pub enum Event {
    Granted(u32, Option<u64>),
    Busy(u32),
    Done(u32),
    Snapshot(u32, Snapshot),
    Snapshots(u32, Snapshots),
    Failed(u32, Error),
    Lost(u32, Error),
    Reconnected(u32),
    Disconnected(u32),
    /// Function, question: which credentials a new connection is to use.
    Credentials(u32, u32),
    /// A waiter of the lock table, by cookie and ticket, was let in by another thread.
    Local(u32, u64),
    /// A hold of `spm:` was stolen by another thread: handle, and ticket or 0.
    Stolen(u32, u64),
    /// A waiter of the cluster's table, by owner, cookie and ticket, was let in by another thread.
    Cluster(u32, u32, u64),
    /// What another environment, given by its number, says about `mpm:`; `None` when it has ended.
    Relay(u32, Option<Box<str>>),
}

/// The arguments of one call of the environment's listener: kind, number, and up to three more.
pub type Arguments = [Value; 5];

impl Event {
    pub fn arguments(&self, js: Js) -> Arguments {
        let none = js.undefined();
        let plain = |kind: i32, number: u32| [js.int(kind), js.number(f64::from(number)), none, none, none];
        let failure = |kind: i32, number: u32, error: &Error| {
            let cause = error.cause.as_deref().map_or(none, |cause| js.text(cause));
            let code = js.text(error.kind.code());
            [
                js.int(kind),
                js.number(f64::from(number)),
                code,
                js.text(&error.message),
                cause,
            ]
        };
        let text = |number: u32, text: &str| {
            let mut arguments = plain(3, number);
            arguments[2] = js.text(text);
            arguments
        };
        match self {
            Event::Granted(number, token) => {
                let mut arguments = plain(0, *number);
                if let Some(token) = token {
                    arguments[2] = js.bigint(*token);
                }
                arguments
            }
            Event::Busy(number) => plain(1, *number),
            Event::Done(number) => plain(2, *number),
            Event::Snapshot(number, snapshot) => text(*number, &snapshot_json(snapshot)),
            Event::Snapshots(number, snapshots) => text(*number, &snapshots_json(snapshots)),
            Event::Failed(number, error) => failure(4, *number, error),
            Event::Lost(number, error) => failure(5, *number, error),
            Event::Reconnected(number) => plain(6, *number),
            Event::Disconnected(number) => plain(10, *number),
            Event::Credentials(number, question) => {
                let mut arguments = plain(11, *number);
                arguments[2] = js.number(f64::from(*question));
                arguments
            }
            Event::Local(number, ticket) => {
                let mut arguments = plain(7, *number);
                // Tickets are numbers from 1 to 2^53.
                arguments[2] = js.number(*ticket as f64);
                arguments
            }
            Event::Stolen(handle, ticket) => {
                let mut arguments = plain(12, *handle);
                arguments[2] = js.number(*ticket as f64);
                arguments
            }
            Event::Relay(from, text) => {
                let mut arguments = plain(8, *from);
                if let Some(text) = text {
                    arguments[2] = js.text(text);
                }
                arguments
            }
            Event::Cluster(owner, cookie, ticket) => {
                let mut arguments = plain(9, *owner);
                arguments[2] = js.number(f64::from(*cookie));
                arguments[3] = js.number(*ticket as f64);
                arguments
            }
        }
    }
}

/// The text that `lib/snapshot.js` reads. Tokens are decimal text, because JSON has no 64-bit numbers.
pub fn snapshot_json(snapshot: &Snapshot) -> String {
    let list = |infos: &[Info]| infos.iter().map(info_json).collect::<Vec<_>>();
    json!({ "held": list(&snapshot.held), "pending": list(&snapshot.pending) }).to_string()
}

/// The text of many snapshots: one array of id and snapshot for each lock.
pub fn snapshots_json(snapshots: &[(Arc<str>, Snapshot)]) -> String {
    let one = |(id, snapshot): &(Arc<str>, Snapshot)| format!("[{},{}]", json!(&**id), snapshot_json(snapshot));
    let all: Vec<_> = snapshots.iter().map(one).collect();
    format!("[{}]", all.join(","))
}

fn info_json(info: &Info) -> serde_json::Value {
    let mut object = Map::new();
    object.insert("mode".into(), json!(info.mode.name()));
    if let Some(token) = info.token {
        object.insert("token".into(), json!(token.to_string()));
    }
    let mut add = |name: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            object.insert(name.into(), value);
        }
    };
    add("host", info.host.as_ref().map(|host| json!(host)));
    add("pid", info.pid.map(|pid| json!(pid)));
    add("thread", info.thread.map(|thread| json!(thread)));
    add("label", info.label.as_ref().map(|label| json!(label)));
    add("since", info.since.map(|since| json!(since)));
    serde_json::Value::Object(object)
}

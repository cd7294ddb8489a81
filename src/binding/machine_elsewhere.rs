//! Locks of the machine, where they do not exist yet.

use super::raw::{Function, entry};
use crate::error::{Error, Kind};

pub const FUNCTIONS: &[Function] = &[("machineOpen", open)];

entry! {
    /// `machineOpen(env, url, label)`: `{ error }`.
    open(3) |js, _args| {
        let error = Error::new(Kind::Server, "lpm: locks exist on Linux only so far: use mpm: or a server here");
        js.object(&[("error", js.error(&error))])
    }
}

pub fn environment_ended(_id: u32) {}

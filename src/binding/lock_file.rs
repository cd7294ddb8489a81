//! The lock folders of `ipc-mutex/proper-lockfile` that the addon keeps fresh.

use super::environment::find;
use super::event::Event;
use super::raw::{Function, entry};
use crate::error::{Error, Kind};
use crate::lock_file::{LockFile, Pace};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::ptr;
use std::sync::LazyLock;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[("lockFileKeep", keep), ("lockFileLeave", leave)];

/// By environment and number.
static KEPT: LazyLock<Mutex<HashMap<(u32, u32), LockFile>>> = LazyLock::new(Mutex::default);

/// A thread that is terminated removes its folders: nobody else will.
pub fn environment_ended(id: u32) {
    KEPT.lock().retain(|(environment, _), file| {
        if *environment == id {
            file.remove();
        }
        *environment != id
    });
}

entry! {
    /// `lockFileKeep(env, number, path, update, stale)`: keeps a folder fresh (milliseconds); an error as an object, if that fails. The number hears
    /// `LOST` if the folder is somebody else's.
    keep(5) |js, args| {
        let (environment, number) = (js.u32(args[0]), js.u32(args[1]));
        let path = js.string(args[2]).unwrap_or_default();
        let ms = |at: usize| Duration::from_millis(js.u53(args[at]));
        let pace = Pace { update: ms(3), stale: ms(4) };
        let compromised = move |error| {
            if let Some(environment) = find(environment) {
                environment.inbox.push(Event::Lost(number, error));
            }
        };
        match LockFile::keep(Path::new(&path), pace, compromised) {
            Ok(file) => {
                KEPT.lock().insert((environment, number), file);
                ptr::null_mut()
            }
            Err(error) => js.error(&Error::new(Kind::Server, format!("{path} cannot be kept fresh")).because(error)),
        }
    }
}

entry! {
    /// `lockFileLeave(env, number)`: whether the folder was still kept.
    leave(2) |js, args| {
        let left = KEPT.lock().remove(&(js.u32(args[0]), js.u32(args[1])));
        js.flag(left.is_some())
    }
}

//! Where a lock lives in Consul's key-value store.
//!
//! `IPC-Mutex-RPM/<id>/leader` is the key of 1.1.2 and decides who is in. The rest stands beside it:
//! `queue/<owner>` is a waiter's ticket, `readers/<owner>` a shared hold, and `IPC-Mutex-RPM/<session>` belongs to one
//! process, whatever the number of its locks (see [`super::session`]).

use crate::backend::Owner;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const ROOT: &str = "IPC-Mutex-RPM";

/// In a path, everything but letters, digits and these is escaped.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');

/// Where all locks are.
pub const ALL: &str = "IPC-Mutex-RPM/";

/// The lock that a key is about, or the session of a process with a key of its own.
pub fn lock_of(key: &str) -> Option<&str> {
    key.strip_prefix(ALL)?.split_once('/').map(|(id, _)| id)
}

/// The folder of lock `id`, with the closing slash.
pub fn folder(id: &str) -> String {
    format!("{ROOT}/{id}/")
}

/// The key that decides: whoever's session holds it is in.
pub fn leader(id: &str) -> String {
    format!("{ROOT}/{id}/leader")
}

pub fn queue(id: &str) -> String {
    format!("{ROOT}/{id}/queue/")
}

pub fn ticket(id: &str, owner: &Owner) -> String {
    format!("{ROOT}/{id}/queue/{}", owner.0)
}

pub fn readers(id: &str) -> String {
    format!("{ROOT}/{id}/readers/")
}

pub fn reader(id: &str, owner: &str) -> String {
    format!("{ROOT}/{id}/readers/{owner}")
}

/// The key of a process, named by its session, because a key that a session held is closed for the lock delay after it. It
/// has no slash behind, so it is in no lock's folder.
pub fn process(session: &str) -> String {
    format!("{ROOT}/{session}")
}

/// Where whoever waits for the process with this key asks it for a sign of life.
pub fn mark(process: &str) -> String {
    format!("{process}/alive")
}

/// The name that 1.1.2 gives to the session of one mutex.
pub fn legacy_session(id: &str) -> String {
    format!("{ROOT}/{id}/session")
}

/// Where to read a key or, with `below`, every key that begins with it.
pub fn path(key: &str, below: bool) -> String {
    let key = utf8_percent_encode(key, PATH);
    format!("/v1/kv/{key}{}", if below { "?recurse" } else { "" })
}

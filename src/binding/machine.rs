//! Locks of the machine: the table in a file that unrelated processes share. Every call is answered at once; what happens to waits and holds
//! later comes through the inbox.

use super::environment::{self, find};
use super::event::{Event, snapshot_json, snapshots_json};
use super::raw::{Function, Js, Value, entry};
use crate::clock;
use crate::core::attempt::Attempt;
use crate::core::mode::Mode;
use crate::core::table::Outcome;
use crate::error::{Error, Kind, Result};
use crate::runtime;
use crate::shared_table::{self, Crowd, Member, Seen, Tell, Who, effective_user, hash};
use crate::url::{self, Target};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, LazyLock};

pub const FUNCTIONS: &[Function] = &[
    ("machineOpen", open),
    ("machineOpenWith", open_with),
    ("machineRequest", request),
    ("machineRelease", release),
    ("machineCancel", cancel),
    ("machineHeld", held),
    ("machineSnapshot", snapshot),
    ("machineSnapshots", snapshots),
    ("machineClose", close),
    ("machinePath", path),
];

/// A mutex object of JavaScript.
#[derive(Clone)]
struct Handle {
    environment: u32,
    folder: Option<PathBuf>,
    id: Arc<str>,
    hash: shared_table::Hash,
    label: Option<String>,
    member: Arc<Member>,
}

#[derive(Default)]
struct Handles {
    open: HashMap<u32, Handle>,
    last: u32,
}

static HANDLES: LazyLock<Mutex<Handles>> = LazyLock::new(Mutex::default);
static MEMBERS: LazyLock<Mutex<HashMap<Place, Arc<Member>>>> = LazyLock::new(Mutex::default);

/// What has one membership each.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    Folder(PathBuf),
    /// A process can become another user.
    User(u32),
}

struct ToInbox;

impl Tell for ToInbox {
    fn granted(&self, environment: u32, number: u32, token: u64) {
        push(environment, Event::Granted(number, Some(token)));
    }

    fn lost(&self, environment: u32, number: u32, error: Error) {
        push(environment, Event::Lost(number, error));
    }

    fn failed(&self, environment: u32, number: u32, error: Error) {
        push(environment, Event::Failed(number, error));
    }
}

fn push(environment: u32, event: Event) {
    if let Some(environment) = find(environment) {
        environment.inbox.push(event);
    }
}

/// The membership of this process in a folder's table; a new one if that table was deleted.
fn member_of(folder: Option<&PathBuf>) -> Result<Arc<Member>> {
    let mut members = MEMBERS.lock();
    let place = folder.map_or_else(|| Place::User(effective_user()), |folder| Place::Folder(folder.clone()));
    if let Some(member) = members.get(&place)
        && !member.is_lost()
    {
        return Ok(Arc::clone(member));
    }
    members.retain(|_, member| !member.is_lost());
    let member = Member::join(folder.map(PathBuf::as_path), environment::host(), Arc::new(ToInbox))?;
    members.insert(place, Arc::clone(&member));
    Ok(member)
}

/// Frees all that a thread has, and forgets its handles.
pub fn environment_ended(id: u32) {
    HANDLES.lock().open.retain(|_, handle| handle.environment != id);
    let members: Vec<_> = MEMBERS.lock().values().cloned().collect();
    for member in members {
        member.environment_gone(id);
    }
}

fn find_handle(number: u32) -> Result<Handle> {
    let found = HANDLES.lock().open.get(&number).cloned();
    found.ok_or_else(|| Error::new(Kind::NotOpen, "still not opened"))
}

/// The handle, with a table that exists.
fn current(number: u32) -> Result<Handle> {
    let mut handle = find_handle(number)?;
    if handle.member.is_lost() {
        handle.member = member_of(handle.folder.as_ref())?;
        if let Some(kept) = HANDLES.lock().open.get_mut(&number) {
            kept.member = Arc::clone(&handle.member);
        }
    }
    Ok(handle)
}

/// Nothing, or an error as an object.
fn done(js: Js, result: Result<()>) -> Value {
    result.map_or_else(|error| js.error(&error), |()| ptr::null_mut())
}

fn open_handle(environment: u32, text: &str, label: Option<String>) -> Result<u32> {
    let Target::Lpm { id, dir } = url::parse(text)?.target else {
        return Err(Error::new(Kind::InvalidUrl, "not the URL of a lock of the machine"));
    };
    Ok(keep(Handle {
        environment,
        hash: hash(&id),
        id: id.into(),
        label,
        member: member_of(dir.as_ref())?,
        folder: dir,
    }))
}

fn keep(handle: Handle) -> u32 {
    let mut handles = HANDLES.lock();
    loop {
        handles.last = handles.last.wrapping_add(1).max(1);
        if !handles.open.contains_key(&handles.last) {
            break;
        }
    }
    let number = handles.last;
    handles.open.insert(number, handle);
    number
}

entry! {
    /// `machineOpen(env, url, label)`: `{ handle }` or `{ error }`.
    open(3) |js, args| {
        match open_handle(js.u32(args[0]), &js.string(args[1]).unwrap_or_default(), js.string(args[2])) {
            Ok(handle) => js.object(&[("handle", js.number(f64::from(handle)))]),
            Err(error) => js.object(&[("error", js.error(&error))]),
        }
    }
}

entry! {
    /// `machineOpenWith(env, other, id, label)`: a handle of another lock of the same folder, by its id.
    open_with(4) |js, args| {
        let Ok(other) = find_handle(js.u32(args[1])) else { return js.number(0.0) };
        let id = js.string(args[2]).unwrap_or_default();
        js.number(f64::from(keep(Handle {
            environment: js.u32(args[0]),
            hash: hash(&id),
            id: id.into(),
            label: js.string(args[3]),
            ..other
        })))
    }
}

entry! {
    /// `machineRequest(env, number, handle, shared, wait)`: the token if granted, true if queued, false if neither, or an error as an object.
    request(5) |js, args| {
        let environment = js.u32(args[0]);
        let mode = if js.bool(args[3]) { Mode::Shared } else { Mode::Exclusive };
        let attempt = if js.bool(args[4]) { Attempt::Wait } else { Attempt::Try };
        let answer = current(js.u32(args[2])).and_then(|handle| {
            let who = Who {
                environment,
                number: js.u32(args[1]),
                thread: find(environment).map_or(0, |environment| environment.thread),
                label: handle.label,
                since: clock::coarse_wall_ms(),
            };
            handle.member.request(&handle.id, &handle.hash, mode, attempt, &who)
        });
        match answer {
            Ok(Outcome::Granted(_, token)) => js.bigint(token.0),
            Ok(Outcome::Queued(_)) => js.flag(true),
            Ok(Outcome::Busy) => js.flag(false),
            Err(error) => js.error(&error),
        }
    }
}

entry! {
    /// `machineRelease(env, number, handle)`: an error as an object, if it fails.
    release(3) |js, args| {
        done(js, find_handle(js.u32(args[2])).and_then(|handle| handle.member.release(js.u32(args[0]), js.u32(args[1]))))
    }
}

entry! {
    /// `machineCancel(env, number, handle)`: the request is gone, granted or not.
    cancel(3) |js, args| {
        if let Ok(handle) = find_handle(js.u32(args[2])) {
            handle.member.cancel(js.u32(args[0]), js.u32(args[1]));
        }
        ptr::null_mut()
    }
}

entry! {
    /// `machineHeld(env, number, handle)`: whether the table still has the hold.
    held(3) |js, args| {
        js.flag(find_handle(js.u32(args[2])).is_ok_and(|handle| handle.member.is_held(js.u32(args[0]), js.u32(args[1]))))
    }
}

entry! {
    /// `machineSnapshot(handle)`: the text that `lib/snapshot.js` reads, or an error as an object.
    snapshot(1) |js, args| {
        match current(js.u32(args[0])).and_then(|handle| handle.member.snapshot(&handle.hash)) {
            Ok(seen) => js.text(&snapshot_json(&shown(seen))),
            Err(error) => js.error(&error),
        }
    }
}

entry! {
    /// `machineSnapshots(handle)`: the same for all locks of the handle's folder.
    snapshots(1) |js, args| {
        match current(js.u32(args[0])).and_then(|handle| handle.member.snapshots()) {
            Ok(all) => js.text(&snapshots_json(&all.into_iter().map(|(id, seen)| (id.into(), shown(seen))).collect::<Vec<_>>())),
            Err(error) => js.error(&error),
        }
    }
}

entry! {
    /// `machineClose(handle)`. What it holds and waits for has been released and cancelled.
    close(1) |js, args| {
        HANDLES.lock().open.remove(&js.u32(args[0]));
        ptr::null_mut()
    }
}

entry! {
    /// `machinePath(handle)`: where the table is.
    path(1) |js, args| {
        find_handle(js.u32(args[0])).map_or(ptr::null_mut(), |handle| js.text(&handle.member.path().to_string_lossy()))
    }
}

fn shown((held, pending): Crowd) -> runtime::Snapshot {
    runtime::Snapshot {
        held: held.into_iter().map(described).collect(),
        pending: pending.into_iter().map(described).collect(),
    }
}

fn described(seen: Seen) -> runtime::Info {
    runtime::Info {
        mode: seen.mode,
        token: seen.token.map(|token| token.0),
        host: Some(seen.host),
        pid: Some(seen.pid),
        thread: Some(seen.who.thread),
        label: seen.who.label,
        since: Some(seen.who.since),
    }
}

//! Locks of this process: the lock table that all its threads share.
//!
//! The hot path does not come here at all: JavaScript changes a lock's word itself. What comes here is answered with one
//! number. A call that lets others of the same thread in says so by the *grants* in its answer: 0 for none, the cookie for one,
//! [`MANY`] for more, which [`take_grants`] then gives. Those of other threads are told through their inboxes.

use super::environment::{self, find};
use super::event::{Event, snapshot_json, snapshots_json};
use super::raw::{Function, Js, Value, entry};
use crate::clock;
use crate::core::attempt::Attempt;
use crate::core::ids::{OwnerId, Ticket};
use crate::core::mode::Mode;
use crate::core::table::{Cancelled, Outcome};
use crate::local::{Deliver, Granted, Handle, Info, LocalTable, Snapshot, Stolen, Who};
use crate::runtime;
use napi::sys;
use std::cell::RefCell;
use std::mem;
use std::os::raw::c_void;
use std::ptr;
use std::sync::LazyLock;

pub const FUNCTIONS: &[Function] = &[
    ("localOpen", open),
    ("localWords", words),
    ("localClose", close),
    ("localRequest", request),
    ("localRelease", release),
    ("localReleaseFast", release_fast),
    ("localCancel", cancel),
    ("localGrants", take_grants),
    ("localToken", token),
    ("localSnapshot", snapshot),
    ("localSnapshots", snapshots),
    ("localSteal", steal),
    ("localStolen", take_stolen),
    ("localHolds", holds),
    ("localIsHeld", is_held),
];

/// Several waiters of this thread were let in.
const MANY: i32 = -2;
/// There is no such hold or request.
const UNKNOWN: i32 = -1;
/// It was granted before it could be withdrawn.
const GRANTED_ALREADY: i32 = -3;

/// The table of `spm:`. Its owners are the environments. Tokens start at the wall clock in nanoseconds, so they also grow from
/// one run of the program to the next.
pub static TABLE: LazyLock<LocalTable> =
    LazyLock::new(|| LocalTable::new(clock::wall_ms().saturating_mul(1_000_000), Box::new(ToInbox)));

struct ToInbox;

impl Deliver for ToInbox {
    fn granted(&self, owner: OwnerId, grants: &[Granted]) {
        if let Some(environment) = find(owner.0) {
            for grant in grants {
                environment
                    .inbox
                    .push(Event::Local(grant.cookie, grant.ticket.to_u64()));
            }
        }
    }

    fn stolen(&self, stolen: Stolen) {
        if let Some(environment) = find(stolen.owner.0) {
            environment.inbox.push(Event::Stolen(stolen.handle.0, number(stolen)));
        }
    }
}

thread_local! {
    /// Whose holds the last steal of this thread ended.
    static STOLEN: RefCell<Vec<Stolen>> = const { RefCell::new(Vec::new()) };
    /// Whom the last call of this thread let in. Kept for its memory.
    static MINE: RefCell<Vec<Granted>> = const { RefCell::new(Vec::new()) };
}

/// The ticket of a stolen hold, 0 for one of the fast path.
fn number(stolen: Stolen) -> u64 {
    stolen.ticket.map_or(0, Ticket::to_u64)
}

/// Runs a call that may let others in, and turns its result and its grants into one number.
fn answer(js: Js, call: impl FnOnce(&mut Vec<Granted>) -> i32) -> Value {
    MINE.with_borrow_mut(|mine| {
        mine.clear();
        let status = call(mine);
        js.int(match (status, mine.as_slice()) {
            (0, []) => 0,
            // Cookies are places in an array of waiters, far below 2^31.
            (0, [grant]) => grant.cookie as i32,
            (0, _) => MANY,
            (status, _) => status,
        })
    })
}

pub(super) fn ticket(js: Js, value: Value) -> Option<Ticket> {
    Ticket::from_u64(js.u53(value))
}

entry! {
    /// `localOpen(env, id, label)`: `{ chunk, offset, handle }`, or undefined if the table is full.
    open(3) |js, args| {
        let env = js.u32(args[0]);
        let who = Who {
            label: js.string(args[2]).map(Into::into),
            thread: find(env).map_or(0, |environment| environment.thread),
            pid: std::process::id(),
        };
        let id = js.string(args[1]).unwrap_or_default();
        match TABLE.open(&id, OwnerId(env), who) {
            Ok(opened) => js.object(&[
                ("chunk", js.number(f64::from(opened.slot.chunk))),
                ("offset", js.number(f64::from(opened.slot.offset))),
                ("handle", js.number(f64::from(opened.handle.0))),
            ]),
            Err(_) => ptr::null_mut(),
        }
    }
}

entry! {
    /// `localWords(chunk)`: an ArrayBuffer over the words of that chunk, or undefined where the runtime allows no memory that is
    /// not its own; then JavaScript asks the table each time.
    words(1) |js, args| {
        let Some(chunk) = TABLE.chunk(js.u32(args[0])) else { return ptr::null_mut() };
        let bytes = mem::size_of_val::<[_]>(&chunk);
        // One count of the chunk belongs to the ArrayBuffer, until `drop_words`.
        let hint = Box::into_raw(Box::new(chunk));
        let mut buffer = ptr::null_mut();
        // SAFETY: the memory stays in place until the finalizer drops the count. All sides use atomic operations only.
        unsafe {
            let data = (*hint).as_ptr().cast_mut().cast::<c_void>();
            let status = sys::napi_create_external_arraybuffer(js.env, data, bytes, Some(drop_words), hint.cast(), &mut buffer);
            if status != sys::Status::napi_ok {
                drop(Box::from_raw(hint));
                return ptr::null_mut();
            }
        }
        buffer
    }
}

unsafe extern "C" fn drop_words(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: the box that `words` made.
    drop(unsafe { Box::from_raw(hint.cast::<crate::local::words::Chunk>()) });
}

entry! {
    /// `localClose(handle)`: grants. Frees what the handle holds on the fast path.
    close(1) |js, args| answer(js, |mine| TABLE.close(Handle(js.u32(args[0])), mine).map_or(UNKNOWN, |()| 0))
}

entry! {
    /// `localRequest(handle, shared, wait, cookie)`: the ticket if granted, minus the ticket if queued, 0 if neither.
    request(4) |js, args| {
        let mode = if js.bool(args[1]) { Mode::Shared } else { Mode::Exclusive };
        let attempt = if js.bool(args[2]) { Attempt::Wait } else { Attempt::Try };
        let since = Some(clock::coarse_wall_ms());
        js.number(match TABLE.request(Handle(js.u32(args[0])), mode, attempt, js.u32(args[3]), since) {
            // Tickets are numbers from 1 to 2^53.
            Ok(Outcome::Granted(ticket, _)) => ticket.to_u64() as f64,
            Ok(Outcome::Queued(ticket)) => -(ticket.to_u64() as f64),
            Ok(Outcome::Busy) | Err(_) => 0.0,
        })
    }
}

entry! {
    /// `localRelease(env, ticket)`: grants, or [`UNKNOWN`].
    release(2) |js, args| {
        let Some(ticket) = ticket(js, args[1]) else { return js.int(UNKNOWN) };
        answer(js, |mine| TABLE.release(ticket, OwnerId(js.u32(args[0])), mine).map_or(UNKNOWN, |()| 0))
    }
}

entry! {
    /// `localReleaseFast(handle)`: grants, or [`UNKNOWN`]. For a hold that was taken by the word and cannot be freed by it.
    release_fast(1) |js, args| {
        answer(js, |mine| TABLE.release_fast(Handle(js.u32(args[0])), mine).map_or(UNKNOWN, |()| 0))
    }
}

entry! {
    /// `localCancel(env, ticket)`: grants, [`GRANTED_ALREADY`] or [`UNKNOWN`].
    cancel(2) |js, args| {
        let Some(ticket) = ticket(js, args[1]) else { return js.int(UNKNOWN) };
        answer(js, |mine| match TABLE.cancel(ticket, OwnerId(js.u32(args[0])), mine) {
            Cancelled::Withdrawn(()) => 0,
            Cancelled::AlreadyGranted => GRANTED_ALREADY,
            Cancelled::Unknown => UNKNOWN,
        })
    }
}

entry! {
    /// `localGrants()`: the cookies of those that the last call of this thread let in.
    take_grants(0) |js, _args| MINE.with_borrow(|mine| js.array(mine.iter().map(|grant| js.number(f64::from(grant.cookie)))))
}

entry! {
    /// `localToken(ticket)`: the fencing token of a hold, or undefined.
    token(1) |js, args| match ticket(js, args[0]).and_then(|ticket| TABLE.token(ticket)) {
        Some(token) => js.bigint(token.0),
        None => ptr::null_mut(),
    }
}

entry! {
    /// `localSnapshot(id)`: the text that `lib/snapshot.js` reads.
    snapshot(1) |js, args| {
        let seen = TABLE.snapshot(&js.string(args[0]).unwrap_or_default());
        js.text(&snapshot_json(&shown(seen)))
    }
}

entry! {
    /// `localSnapshots()`: the same for all locks.
    snapshots(0) |js, _args| js.text(&all_of(&TABLE))
}

entry! {
    /// `localSteal(handle, cookie)`: the ticket, or 0 if the table is full. `localStolen` then says whose holds of this thread that ended.
    steal(2) |js, args| {
        let since = Some(clock::coarse_wall_ms());
        STOLEN.with_borrow_mut(|stolen| {
            stolen.clear();
            js.number(match TABLE.steal(Handle(js.u32(args[0])), js.u32(args[1]), since, stolen) {
                Ok(Outcome::Granted(ticket, _)) => ticket.to_u64() as f64,
                Ok(Outcome::Queued(_) | Outcome::Busy) | Err(_) => 0.0,
            })
        })
    }
}

entry! {
    /// `localStolen()`: handle and ticket (or 0) of each, in one array.
    take_stolen(0) |js, _args| STOLEN.with_borrow(|stolen| js.array(stolen.iter().flat_map(|one| {
        [f64::from(one.handle.0), number(*one) as f64].map(|number| js.number(number))
    })))
}

entry! {
    /// `localHolds(handle)`: whether what the handle took on the fast path is still its own.
    holds(1) |js, args| js.flag(TABLE.holds(Handle(js.u32(args[0]))))
}

entry! {
    /// `localIsHeld(ticket)`: whether that is a hold.
    is_held(1) |js, args| js.flag(ticket(js, args[0]).is_some_and(|ticket| TABLE.is_held(ticket)))
}

/// Everybody at one lock, as users are shown it.
pub(super) fn shown(seen: Snapshot) -> runtime::Snapshot {
    runtime::Snapshot {
        held: seen.held.into_iter().map(described).collect(),
        pending: seen.pending.into_iter().map(described).collect(),
    }
}

/// The text of all locks of a table.
pub(super) fn all_of(table: &LocalTable) -> String {
    let all = table.snapshots().into_iter().map(|(id, seen)| (id, shown(seen)));
    snapshots_json(&all.collect::<Vec<_>>())
}

/// What users are shown of a holder or waiter of this process.
fn described(info: Info) -> runtime::Info {
    runtime::Info {
        mode: info.mode,
        token: info.token.map(|token| token.0),
        host: Some(environment::host().to_owned()),
        pid: Some(info.tag.who.pid),
        thread: Some(info.tag.who.thread),
        label: info.tag.who.label.as_deref().map(str::to_owned),
        since: info.tag.since,
    }
}

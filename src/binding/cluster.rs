//! The lock table of `mpm:`, as the cluster's primary has it, and the way to it for threads that have none.
//!
//! In the primary (and in a process without any cluster) every environment asks the table itself. The primary's main thread
//! does so for the workers too, each of which is an owner of its own. A call that lets waiters in answers with their number;
//! [`take_grants`] then tells those whose owner is served by the calling environment, and the others are told through
//! their inboxes.
//!
//! In a worker process there is nothing to ask: its main thread talks to the primary, and passes on what the other threads
//! of the process want ([`relay_send`]). What they say to each other is opaque here; see `lib/cluster/frames.js`.

use super::environment::{self, find};
use super::event::{Event, snapshot_json};
use super::lending::{LENDING, Lending};
use super::local::{all_of, shown, ticket};
use super::raw::{Function, entry};

use crate::clock;
use crate::core::attempt::Attempt;
use crate::core::ids::{OwnerId, Ticket, Token};
use crate::core::mode::Mode;
use crate::core::table::{Cancelled, Outcome};
use crate::local::lent::Lent;
use crate::local::{Deliver, Granted, Handle, LocalTable, Who};
use crate::runtime::EnvId;
use parking_lot::RwLock;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

pub const FUNCTIONS: &[Function] = &[
    ("clusterRole", role),
    ("clusterOwner", owner),
    ("clusterLend", lend),
    ("clusterGone", gone),
    ("clusterOpen", open),
    ("clusterClose", close),
    ("clusterRequest", request),
    ("clusterRelease", release),
    ("clusterLeft", left),
    ("clusterCancel", cancel),
    ("clusterGrants", take_grants),
    ("clusterToken", token),
    ("clusterSnapshot", snapshot),
    ("clusterSnapshots", snapshots),
    ("relayServe", relay_serve),
    ("relaySend", relay_send),
];

/// There is no such hold or request.
const UNKNOWN: i32 = -1;
/// It was granted before it could be withdrawn.
const GRANTED_ALREADY: i32 = -3;

/// Tokens start at the wall clock in nanoseconds, so they also grow from one primary to the next.
static TABLE: LazyLock<LocalTable> = LazyLock::new(|| {
    let seed = clock::wall_ms().saturating_mul(1_000_000);
    match &*LENDING {
        Some(lending) => {
            let lent = Lent::new(Arc::new(lending.places()), clock::coarse_wall_ms);
            LocalTable::lending(seed, lent, Box::new(ToServing))
        }
        None => LocalTable::new(seed, Box::new(ToServing)),
    }
});

/// Which environment speaks for an owner.
static SERVING: LazyLock<RwLock<HashMap<OwnerId, EnvId>>> = LazyLock::new(RwLock::default);

/// What the main thread has found out about the process: a number of `lib/cluster/role.js`, 0 as long as it has not.
static ROLE: AtomicU32 = AtomicU32::new(0);

/// The environment that relays for the other threads of a worker process; 0 for none.
static RELAY: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The environment whose call is running on this thread.
    static CALLER: Cell<EnvId> = const { Cell::new(0) };
    /// Whom that call let in and the environment has not taken yet.
    static GRANTS: RefCell<Vec<Granted>> = const { RefCell::new(Vec::new()) };
}

struct ToServing;

impl Deliver for ToServing {
    fn granted(&self, owner: OwnerId, grants: &[Granted]) {
        let Some(env) = SERVING.read().get(&owner).copied() else {
            return;
        };
        if env == CALLER.get() {
            GRANTS.with_borrow_mut(|mine| mine.extend_from_slice(grants));
        } else if let Some(environment) = find(env) {
            for grant in grants {
                let (cookie, ticket) = (grant.cookie, grant.ticket.to_u64());
                environment.inbox.push(Event::Cluster(owner.0, cookie, ticket));
            }
        }
    }
}

/// Runs a call of environment `env` that may let others in: how many of them it has to tell, or why not.
fn let_in(env: EnvId, call: impl FnOnce(&mut Vec<Granted>) -> Result<(), i32>) -> i32 {
    CALLER.set(env);
    let mut own = Vec::new();
    let result = call(&mut own);
    CALLER.set(0);
    GRANTS.with_borrow_mut(|grants| {
        grants.append(&mut own);
        // The table has room for 2^24 requests.
        result.map_or_else(|why| why, |()| grants.len() as i32)
    })
}

fn forget_owner(owner: OwnerId) {
    SERVING.write().remove(&owner);
    if let Some(lending) = &*LENDING {
        lending.withdraw(owner);
    }
    TABLE.owner_gone(owner);
}

/// An environment ends: frees everything of those that it spoke for, and tells the one that relays for it.
pub fn environment_ended(env: EnvId) {
    let owners: Vec<_> = SERVING
        .read()
        .iter()
        .filter(|(_, of)| **of == env)
        .map(|(owner, _)| *owner)
        .collect();
    for owner in owners {
        forget_owner(owner);
    }
    if RELAY
        .compare_exchange(env, 0, Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
        && let Some(relay) = find(RELAY.load(Ordering::SeqCst))
    {
        relay.inbox.push(Event::Relay(env, None));
    }
}

entry! {
    /// `clusterRole(number)`: sets the process's role unless the number is 0, and gives the role.
    role(1) |js, args| {
        let given = js.u32(args[0]);
        if given != 0 {
            ROLE.store(given, Ordering::SeqCst);
        }
        js.number(f64::from(ROLE.load(Ordering::SeqCst)))
    }
}

entry! {
    /// `clusterOwner(env)`: a new owner in the table, spoken for by this environment.
    owner(1) |js, args| {
        let owner = TABLE.new_owner();
        SERVING.write().insert(owner, js.u32(args[0]));
        js.number(f64::from(owner.0))
    }
}

entry! {
    /// `clusterLend(owner)`: where it finds the words of the table, for `clusterBorrow` and with the place of its sign; undefined if they are
    /// not lent to it. To be called once.
    lend(1) |js, args| {
        let owner = OwnerId(js.u32(args[0]));
        match LENDING.as_ref().and_then(|lending| lending.sign(owner)) {
            Some(address) => js.array(address.map(|number| js.number(f64::from(number)))),
            None => ptr::null_mut(),
        }
    }
}

entry! {
    /// `clusterGone(env, owner)`: grants. Frees everything of the owner.
    gone(2) |js, args| {
        let owner = OwnerId(js.u32(args[1]));
        js.int(let_in(js.u32(args[0]), |_| {
            forget_owner(owner);
            Ok(())
        }))
    }
}

entry! {
    /// `clusterOpen(owner, id, label, pid, thread)`: a handle, and where in the lent memory the word of the lock is, 0 for nowhere; undefined
    /// if the table is full or the owner gone.
    open(5) |js, args| {
        let who = Who {
            label: js.string(args[2]).map(Into::into),
            pid: js.u32(args[3]),
            thread: js.u32(args[4]),
        };
        let id = js.string(args[1]).unwrap_or_default();
        match TABLE.open(&id, OwnerId(js.u32(args[0])), who) {
            Ok(opened) => {
                let word = opened.lent.map_or(0, Lending::word);
                js.array([opened.handle.0, word].map(|number| js.number(f64::from(number))))
            }
            Err(_) => ptr::null_mut(),
        }
    }
}

entry! {
    /// `clusterClose(env, handle)`: grants, or [`UNKNOWN`]. Holds and waits stay, for the caller to end.
    close(2) |js, args| js.int(let_in(js.u32(args[0]), |own| {
        TABLE.close(Handle(js.u32(args[1])), own).map_err(|_| UNKNOWN)
    }))
}

entry! {
    /// `clusterRequest(handle, shared, wait, cookie)`: the ticket if granted, minus the ticket if queued, 0 if neither.
    request(4) |js, args| {
        let mode = if js.bool(args[1]) { Mode::Shared } else { Mode::Exclusive };
        let attempt = if js.bool(args[2]) { Attempt::Wait } else { Attempt::Try };
        let since = Some(clock::coarse_wall_ms());
        let handle = Handle(js.u32(args[0]));
        let mut own = Vec::new();
        TABLE.settle(handle, &mut own);
        if let Some(first) = own.first() {
            ToServing.granted(first.owner, &own);
        }
        // Tickets are below 2^53.
        js.number(match TABLE.request(handle, mode, attempt, js.u32(args[3]), since) {
            Ok(Outcome::Granted(ticket, _)) => ticket.to_u64() as f64,
            Ok(Outcome::Queued(ticket)) => -(ticket.to_u64() as f64),
            Ok(Outcome::Busy) | Err(_) => 0.0,
        })
    }
}

entry! {
    /// `clusterRelease(env, owner, ticket)`: grants, or [`UNKNOWN`].
    release(3) |js, args| {
        let (owner, ticket) = (OwnerId(js.u32(args[1])), ticket(js, args[2]));
        js.int(let_in(js.u32(args[0]), |own| {
            let ticket = ticket.ok_or(UNKNOWN)?;
            TABLE.release(ticket, owner, own).map_err(|_| UNKNOWN)
        }))
    }
}

entry! {
    /// `clusterLeft(env, handle)`: grants. The owner has left a mark at the lock of this handle, see [`crate::local::lent`].
    left(2) |js, args| js.int(let_in(js.u32(args[0]), |own| {
        TABLE.settle(Handle(js.u32(args[1])), own);
        Ok(())
    }))
}

entry! {
    /// `clusterCancel(env, owner, ticket)`: grants, [`GRANTED_ALREADY`] or [`UNKNOWN`].
    cancel(3) |js, args| {
        let (owner, ticket) = (OwnerId(js.u32(args[1])), ticket(js, args[2]));
        js.int(let_in(js.u32(args[0]), |own| {
            match TABLE.cancel(ticket.ok_or(UNKNOWN)?, owner, own) {
                Cancelled::Withdrawn(()) => Ok(()),
                Cancelled::AlreadyGranted => Err(GRANTED_ALREADY),
                Cancelled::Unknown => Err(UNKNOWN),
            }
        }))
    }
}

entry! {
    /// `clusterGrants()`: owner, cookie and ticket of each whom the last calls of this thread let in, in one array.
    take_grants(0) |js, _args| {
        let grants = GRANTS.take();
        js.array(grants.iter().flat_map(|grant| {
            let ticket = grant.ticket.to_u64() as f64;
            [f64::from(grant.owner.0), f64::from(grant.cookie), ticket].map(|number| js.number(number))
        }))
    }
}

entry! {
    /// `clusterToken(ticket)`: the fencing token of a hold as decimal text, which every channel carries, or undefined.
    token(1) |js, args| match ticket(js, args[0]).and_then(|ticket: Ticket| TABLE.token(ticket)) {
        Some(Token(token)) => js.text(&token.to_string()),
        None => ptr::null_mut(),
    }
}

entry! {
    /// `clusterSnapshot(id)`: the text that `lib/snapshot.js` reads.
    snapshot(1) |js, args| {
        let seen = TABLE.snapshot(&js.string(args[0]).unwrap_or_default());
        js.text(&snapshot_json(&shown(seen)))
    }
}

entry! {
    /// `clusterSnapshots()`: the same for all locks.
    snapshots(0) |js, _args| js.text(&all_of(&TABLE))
}

entry! {
    /// `relayServe(env, text)`: from now on this environment relays; all others hear the text.
    relay_serve(2) |js, args| {
        let env = js.u32(args[0]);
        RELAY.store(env, Ordering::SeqCst);
        let text = js.string(args[1]).unwrap_or_default();
        environment::tell_others(env, || Event::Relay(env, Some(text.clone().into())));
        ptr::null_mut()
    }
}

entry! {
    /// `relaySend(from, to, text)`: tells environment `to`, or the one that relays if that is 0; false if there is none.
    relay_send(3) |js, args| {
        let to = match js.u32(args[1]) {
            0 => RELAY.load(Ordering::SeqCst),
            to => to,
        };
        let environment = find(to);
        if let (Some(environment), Some(text)) = (&environment, js.string(args[2])) {
            environment.inbox.push(Event::Relay(js.u32(args[0]), Some(text.into())));
        }
        js.flag(environment.is_some())
    }
}

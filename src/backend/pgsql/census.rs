//! Who holds a lock and who waits for it, as far as PostgreSQL tells.
//!
//! `pg_locks` knows modes and sessions, `pg_stat_activity` the names of the sessions' programs: host and process id of ours.
//! What this process itself asked, it knows better.

use super::failure::Fault;
use super::key::Key;
use super::name;
use super::request::{Phase, Request};
use super::session::Session;
use super::sql;
use crate::backend::{Attempt, Identity, Info, Snapshot};
use crate::core::mode::Mode;
use std::collections::HashSet;
use std::rc::Rc;
use tokio_postgres::types::{ToSql, Type};

/// Asks `session` about the lock `key`; `ours` are this process's requests for it.
pub async fn take(
    session: &Session,
    key: Key,
    mut ours: Vec<Rc<Request>>,
    identity: &Identity,
) -> Result<Snapshot, Fault> {
    // Several may stand at one session; among themselves they are shown in the order of their asking. Owners are numbered.
    ours.sort_by_key(|request| {
        let owner = &request.ask.owner.0;
        (request.ask.since, owner.len(), owner.clone())
    });
    let (class, object, sub) = key.locator();
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&class, Type::INT8), (&object, Type::INT8), (&sub, Type::INT2)];
    let rows = session.rows(&sql::who(session.server.version), &parameters).await?;
    let mut snapshot = Snapshot::default();
    let mut told: HashSet<*const Request> = HashSet::new();
    for row in rows {
        let pid: i32 = row.try_get(0).unwrap_or_default();
        let mode = if row.try_get(1).unwrap_or(false) {
            Mode::Shared
        } else {
            Mode::Exclusive
        };
        let granted: bool = row.try_get(2).unwrap_or(false);
        let known: Vec<_> = ours.iter().filter(|request| stands_at(request, pid, granted)).collect();
        let list = if granted {
            &mut snapshot.held
        } else {
            &mut snapshot.pending
        };
        if known.is_empty() {
            let who = name::read(row.try_get(3).unwrap_or_default(), key);
            let since: Option<i64> = row.try_get(4).unwrap_or_default();
            list.push(Info {
                mode,
                token: None,
                host: who.as_ref().map(|who| who.host.clone()),
                pid: who.as_ref().map(|who| who.pid),
                thread: who.as_ref().and_then(|who| who.thread),
                label: who.and_then(|who| who.label),
                since: since.and_then(|since| u64::try_from(since).ok()),
            });
        }
        for request in known {
            told.insert(Rc::as_ptr(request));
            list.push(describe(request, identity));
        }
    }
    // Those that wait in this process for a side session are behind all that wait at the server.
    let rest = ours
        .iter()
        .filter(|request| request.ask.attempt == Attempt::Wait && matches!(request.phase(), Phase::Asking))
        .filter(|request| !told.contains(&Rc::as_ptr(request)));
    snapshot.pending.extend(rest.map(|request| describe(request, identity)));
    Ok(snapshot)
}

fn stands_at(request: &Request, pid: i32, granted: bool) -> bool {
    if granted {
        request
            .hold
            .borrow()
            .as_ref()
            .is_some_and(|hold| hold.session.ghost.pid == pid)
    } else {
        let group = request.waits_in.borrow();
        group.as_ref().is_some_and(|group| group.pid.get() == Some(pid))
    }
}

fn describe(request: &Request, identity: &Identity) -> Info {
    let hold = request.hold.borrow();
    Info {
        mode: request.ask.mode,
        token: hold.as_ref().and_then(|hold| hold.token),
        host: Some(identity.host.clone()),
        pid: Some(identity.pid),
        thread: Some(request.ask.thread),
        label: request.ask.label.as_deref().map(str::to_owned),
        since: Some(hold.as_ref().map_or(request.ask.since, |hold| hold.since)),
    }
}

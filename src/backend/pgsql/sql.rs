//! What is said to the server, in SQL.
//!
//! Locks are PostgreSQL's session-level advisory locks: they belong to the connection and end with it, and no rollback
//! touches them. Names are qualified, so that nobody's `search_path` can slip other functions in.

use super::key::{Key, Shape};
use crate::core::mode::Mode;
use tokio_postgres::types::Type;

/// What to do with a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Take it if that is possible at once. The server says no as well if somebody waits who would conflict, so this never
    /// overtakes.
    Try,
    /// The same for a session that holds the lock shared already. The server would grant it again whoever waits, so the
    /// queue has to be looked at first.
    TryUnlessAwaited,
    /// Give it back.
    Free,
}

/// A prepared statement about one lock. Its answer is one row: whether the lock was taken, or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    pub verb: Verb,
    pub mode: Mode,
    pub shape: Shape,
}

impl Call {
    /// How many different ones there are.
    pub const NUMBER: usize = 3 * 2 * 2;

    pub fn new(verb: Verb, mode: Mode, key: Key) -> Self {
        Self {
            verb,
            mode,
            shape: key.shape(),
        }
    }

    /// Which of them this is, from 0.
    pub fn index(self) -> usize {
        (self.verb as usize * 2 + self.mode as usize) * 2 + self.shape as usize
    }

    pub fn sql(self) -> String {
        let suffix = suffix(self.mode);
        let key = match self.shape {
            Shape::Big => "($1)",
            Shape::Pair => "($1,$2)",
        };
        match self.verb {
            Verb::Try => format!("SELECT pg_catalog.pg_try_advisory_lock{suffix}{key}"),
            Verb::TryUnlessAwaited => {
                let awaited = awaited(self.shape);
                format!("SELECT CASE WHEN {awaited} THEN false ELSE pg_catalog.pg_try_advisory_lock{suffix}{key} END")
            }
            Verb::Free => format!("SELECT pg_catalog.pg_advisory_unlock{suffix}{key}"),
        }
    }

    pub fn types(self) -> &'static [Type] {
        match self.shape {
            Shape::Big => &[Type::INT8],
            Shape::Pair => &[Type::INT4, Type::INT4],
        }
    }
}

fn suffix(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "",
        Mode::Shared => "_shared",
    }
}

/// How a wait begins, by which others recognise it in `pg_stat_activity`.
const WAIT: &str = "DO $$/* ipc-mutex waits for a lock */";

/// Waits for a lock in the server's queue. Must be executed by itself, outside of a transaction.
///
/// A statement that waits keeps a snapshot: CREATE INDEX CONCURRENTLY waits for it, and VACUUM removes nothing that is younger. So the
/// wait can be interrupted, by [`refresh`] or `lock_timeout`, and begins anew behind a commit, which drops the snapshot. The lock may
/// have been granted in the moment of the interruption, hence the look, which comes first if an interruption went by the net (`again`).
pub fn wait(mode: Mode, key: Key, again: bool) -> String {
    let suffix = suffix(mode);
    let number = match key {
        Key::Big(n) => n.to_string(),
        Key::Pair(a, b) => format!("{a},{b}"),
    };
    let (class, object, sub) = key.locator();
    format!(
        "{WAIT}DECLARE again bool := {again}; BEGIN LOOP \
         BEGIN \
         IF again AND EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'advisory' \
         AND granted AND classid::bigint = {class} AND objid::bigint = {object} AND objsubid = {sub}) THEN EXIT; END IF; \
         again := true; \
         PERFORM pg_catalog.pg_advisory_lock{suffix}({number}); EXIT; \
         EXCEPTION WHEN lock_not_available OR deadlock_detected OR query_canceled THEN NULL; END; \
         COMMIT; END LOOP; END$$"
    )
}

/// Since when a session waits: the server tells from version 14 on; before, the start of its transaction says the same.
fn waiting_since(version: i32) -> &'static str {
    if version >= 140_000 {
        "COALESCE(l.waitstart, a.xact_start)"
    } else {
        "a.xact_start"
    }
}

/// The waits of sessions like ours, of this and of other processes, in this database.
fn waits(version: i32) -> String {
    let since = waiting_since(version);
    format!(
        "SELECT l.pid, l.classid, l.objid, l.objsubid, l.virtualtransaction, {since} AS since FROM pg_catalog.pg_locks l \
         JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND NOT l.granted AND {DATABASE} \
         AND pg_catalog.starts_with(a.query, '{}')",
        WAIT.replace('\'', "''")
    )
}

/// Whether somebody has to wait for the snapshot of a wait of ours, or it is older than `seconds`.
pub fn hurts(version: i32, seconds: u64) -> String {
    let waits = waits(version);
    format!(
        "SELECT EXISTS (SELECT FROM ({waits}) w WHERE w.since < pg_catalog.clock_timestamp() - interval '{seconds} s' \
         OR EXISTS (SELECT FROM pg_catalog.pg_locks v WHERE v.locktype = 'virtualxid' AND NOT v.granted \
         AND v.virtualxid = w.virtualtransaction))"
    )
}

/// Has all waits of sessions like ours begin anew, in the order of their queues, so that they keep it: the next in a queue is disturbed when the one
/// before it waits again, or after two seconds. If several processes do this at a time, one does it.
pub fn refresh(version: i32) -> String {
    let waits = waits(version);
    format!(
        "DO $refresh$DECLARE turn record; BEGIN \
         IF pg_catalog.pg_try_advisory_xact_lock(1768973101, 1970632053) THEN \
         FOR turn IN SELECT pg_catalog.array_agg(q.pid) AS pids, pg_catalog.array_agg(q.virtualtransaction) AS waits \
         FROM (SELECT w.pid, w.virtualtransaction, pg_catalog.row_number() OVER \
         (PARTITION BY w.classid, w.objid, w.objsubid ORDER BY w.since NULLS LAST, w.pid) AS place FROM ({waits}) w) q \
         GROUP BY q.place ORDER BY q.place LOOP \
         PERFORM pg_catalog.pg_cancel_backend(p) FROM pg_catalog.unnest(turn.pids) p; \
         FOR look IN 1..400 LOOP \
         PERFORM pg_catalog.pg_sleep(0.005), pg_catalog.pg_stat_clear_snapshot(); \
         EXIT WHEN NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(turn.pids), pg_catalog.unnest(turn.waits)) s(pid, wait) \
         JOIN pg_catalog.pg_stat_activity a ON a.pid = s.pid WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = s.pid AND l.locktype = 'advisory' \
         AND (l.granted OR l.virtualtransaction <> s.wait))); \
         END LOOP; END LOOP; END IF; END$refresh$"
    )
}

/// What the sessions with the process ids `$1` do that were started at `$2` (microseconds since 1970): those that are still there, and
/// whether an advisory lock was granted to each, or is waited for, or a statement is executed. Of a session of another user, which
/// `credentials` may have named for it, only its locks are shown: it passes for the one that is asked for, and for busy.
pub const LOOK: &str = "SELECT a.pid, l.held, l.waits, COALESCE(a.state <> 'idle', true) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) s(pid, started) \
     JOIN pg_catalog.pg_stat_activity a ON a.pid = s.pid AND COALESCE((EXTRACT(epoch FROM a.backend_start) * 1000000)::bigint = s.started, true) \
     LEFT JOIN (SELECT pid, pg_catalog.bool_or(granted) AS held, pg_catalog.bool_or(NOT granted) AS waits FROM pg_catalog.pg_locks \
     WHERE locktype = 'advisory' GROUP BY pid) l ON l.pid = a.pid";

/// A fencing token: the transaction's id with its epoch, which grows from grant to grant. A transaction that only has an id is not
/// flushed to disk when it commits, and after a crash the server would give the same id again; the logical message makes it one
/// that has written, so that the answer comes after the flush.
pub const TOKEN: &str = "SELECT CASE WHEN pg_catalog.pg_logical_emit_message(true, 'ipc-mutex', '') IS NULL THEN NULL \
     ELSE pg_catalog.txid_current() END";

/// Whether anybody waits for the key in `$1` (and `$2`), in this database.
fn awaited(shape: Shape) -> String {
    let (class, object, sub) = match shape {
        Shape::Big => ("($1 >> 32) & 4294967295", "$1 & 4294967295", 1),
        Shape::Pair => ("$1::bigint & 4294967295", "$2::bigint & 4294967295", 2),
    };
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND NOT l.granted AND {DATABASE} \
         AND l.classid::bigint = {class} AND l.objid::bigint = {object} AND l.objsubid = {sub})"
    )
}

/// Whether a session waits for the key with the locator `$1`, `$2`, `$3`, exclusively, behind the session with process id
/// `$4`, which waits for it shared. The server's own word for "behind" is "blocked by", also where both wait.
pub fn writer_behind() -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND NOT l.granted AND {DATABASE} \
         AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.objsubid = $3 AND l.mode = 'ExclusiveLock' \
         AND $4 = ANY (pg_catalog.pg_blocking_pids(l.pid)))"
    )
}

const DATABASE: &str =
    "l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

/// Who holds and who waits for the key with the locator `$1`, `$2`, `$3`.
pub fn who(version: i32) -> String {
    who_at(
        version,
        "AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.objsubid = $3",
    )
}

/// The same for every key.
pub fn who_at_all(version: i32) -> String {
    who_at(version, "")
}

fn who_at(version: i32, key: &str) -> String {
    let waiting = waiting_since(version);
    format!(
        "SELECT l.pid, l.mode = 'ShareLock', l.granted, COALESCE(a.application_name, ''), \
         CASE WHEN l.granted THEN NULL ELSE (EXTRACT(epoch FROM {waiting}) * 1000)::bigint END, \
         l.classid::bigint, l.objid::bigint, l.objsubid \
         FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND {DATABASE} {key} \
         ORDER BY l.granted DESC, {waiting} NULLS LAST, l.pid"
    )
}

/// Switches off a limit that might end the statements that follow.
pub const NO_STATEMENT_TIMEOUT: &str = "SET statement_timeout = 0";

/// What must be known about a new session before it is used.
pub const INTRODUCTION: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
     (EXTRACT(epoch FROM a.backend_start) * 1000000)::bigint, pg_catalog.current_setting('server_version_num'), \
     (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint \
     FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a";

/// Gives the session another name.
pub const RENAME: &str = "SELECT pg_catalog.set_config('application_name', $1, false)";

/// Ends the sessions with the process ids `$1` that were started at `$2` (microseconds since 1970), and tells which of them there still
/// were. A pooler may have given a session to another client (`$3`): then only one that still has to do with a lock is ended. One of
/// another user is not ours to end, nor can it be told from a later one: while it has to do with a lock, it passes for the one it was.
pub const TERMINATE: &str = "SELECT s.pid, s.started, CASE WHEN a.backend_start IS NOT NULL THEN pg_catalog.pg_terminate_backend(s.pid) END \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) s(pid, started) \
     JOIN pg_catalog.pg_stat_activity a ON a.pid = s.pid AND COALESCE((EXTRACT(epoch FROM a.backend_start) * 1000000)::bigint = s.started, true) \
     WHERE NOT $3 AND a.backend_start IS NOT NULL OR EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = s.pid AND l.locktype = 'advisory')";

/// Settings of the session, those that the server's version has.
///
/// A role's own time limits would end a wait or the session of a hold. The TCP settings decide when the server gives up a
/// client that has gone silent: later than that client gives up its holds, which is `ttl` after its last successful
/// heartbeat, and soon after. Something in between may acknowledge what a dead client never sees: a session that `keeps_locks`
/// is ended as well when it hears no statement for as long. `lock_timeout` is the net below [`refresh`], see [`wait`]; where each error
/// ends its session (`exit_on_error`), an interruption would end the wait.
/// `synchronous_commit = off` would answer before a token is on disk.
pub fn settings(ttl: std::time::Duration, keeps_locks: bool) -> String {
    let silent = ttl.as_millis().div_ceil(1000) + 1;
    let idle = if keeps_locks { silent * 1000 } else { 0 };
    let interval = (silent / 5).clamp(1, 10);
    let values = [
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", "30000".to_owned()),
        ("idle_session_timeout", idle.to_string()),
        ("idle_in_transaction_session_timeout", "0".to_owned()),
        ("transaction_timeout", "0".to_owned()),
        ("exit_on_error", "off".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_deferrable", "off".to_owned()),
        ("tcp_keepalives_idle", silent.to_string()),
        ("tcp_keepalives_interval", interval.to_string()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", (silent * 1000).to_string()),
        ("client_connection_check_interval", "500".to_owned()),
    ];
    let values: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("('{name}','{value}')"))
        .collect();
    format!(
        "SELECT pg_catalog.set_config(s.name, v.value, false) FROM (VALUES {}) v(name, value) \
         JOIN pg_catalog.pg_settings s ON s.name = v.name; \
         SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
         WHERE pg_catalog.current_setting('synchronous_commit') = 'off'",
        values.join(",")
    )
}

//! What is said to the server, in SQL.
//!
//! Locks are PostgreSQL's session-level advisory locks: they belong to the connection and end with it, and no rollback
//! touches them. Names are qualified, so that nobody's `search_path` can slip other functions in.

use super::key::Shape;
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
    /// Wait for it in the server's queue.
    Wait,
    /// Give it back.
    Free,
}

/// A statement about one lock. Its answer is one row: whether the lock was taken (or given back) and, if `fenced`, the
/// fencing token or NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    pub verb: Verb,
    pub mode: Mode,
    pub fenced: bool,
    pub shape: Shape,
}

impl Call {
    /// How many different ones there are.
    pub const NUMBER: usize = 4 * 2 * 2 * 2;

    /// Which of them this is, from 0.
    pub fn index(self) -> usize {
        ((self.verb as usize * 2 + self.mode as usize) * 2 + usize::from(self.fenced)) * 2 + self.shape as usize
    }

    pub fn sql(self) -> String {
        let suffix = match self.mode {
            Mode::Exclusive => "",
            Mode::Shared => "_shared",
        };
        let key = match self.shape {
            Shape::Big => "($1)",
            Shape::Pair => "($1,$2)",
        };
        let act = match self.verb {
            Verb::Try => format!("pg_catalog.pg_try_advisory_lock{suffix}{key}"),
            Verb::TryUnlessAwaited => {
                let awaited = awaited(self.shape);
                format!("CASE WHEN {awaited} THEN false ELSE pg_catalog.pg_try_advisory_lock{suffix}{key} END")
            }
            Verb::Wait => format!("pg_catalog.pg_advisory_lock{suffix}{key}"),
            Verb::Free => format!("pg_catalog.pg_advisory_unlock{suffix}{key}"),
        };
        match (self.verb, self.fenced) {
            // A materialized CTE is computed before anything that reads from it: first the lock, then the token.
            (Verb::Wait, false) => format!("WITH l AS MATERIALIZED (SELECT {act}) SELECT true FROM l"),
            (Verb::Wait, true) => format!("WITH l AS MATERIALIZED (SELECT {act}) SELECT true, {TOKEN} FROM l"),
            (Verb::Free, _) | (_, false) => format!("SELECT {act}"),
            (_, true) => {
                format!(
                    "WITH l AS MATERIALIZED (SELECT {act} AS got) SELECT got, CASE WHEN got THEN {TOKEN} END FROM l"
                )
            }
        }
    }

    pub fn types(self) -> &'static [Type] {
        match self.shape {
            Shape::Big => &[Type::INT8],
            Shape::Pair => &[Type::INT4, Type::INT4],
        }
    }
}

/// The transaction's id with its epoch: it grows from grant to grant. A transaction that only has an id is not flushed to
/// disk when it commits, and after a crash the server would give the same id again; the logical message makes it one
/// that has written, so that the answer comes after the flush.
const TOKEN: &str = "CASE WHEN pg_catalog.pg_logical_emit_message(true, 'ipc-mutex', '') IS NULL THEN NULL \
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

/// Who holds and who waits for the key with the locator `$1`, `$2`, `$3`. The server tells since when somebody waits
/// from version 14 on; before, the start of a waiter's statement says the same.
pub fn who(version: i32) -> String {
    let waiting = if version >= 140_000 {
        "COALESCE(l.waitstart, a.query_start)"
    } else {
        "a.query_start"
    };
    format!(
        "SELECT l.pid, l.mode = 'ShareLock', l.granted, COALESCE(a.application_name, ''), \
         CASE WHEN l.granted THEN NULL ELSE (EXTRACT(epoch FROM {waiting}) * 1000)::bigint END \
         FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND {DATABASE} \
         AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.objsubid = $3 \
         ORDER BY l.granted DESC, {waiting} NULLS LAST, l.pid"
    )
}

/// What must be known about a new session before it is used.
pub const INTRODUCTION: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
     (EXTRACT(epoch FROM a.backend_start) * 1000000)::bigint, pg_catalog.current_setting('server_version_num'), \
     (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint \
     FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a";

/// Gives the session another name.
pub const RENAME: &str = "SELECT pg_catalog.set_config('application_name', $1, false)";

/// Gives up everything that a side session may hold.
pub const FREE_ALL: &str = "SELECT pg_catalog.pg_advisory_unlock_all()";

/// Ends the session with process id `$1` that was started at `$2` (microseconds since 1970), and tells how many such there
/// still were.
pub const TERMINATE: &str = "SELECT count(pg_catalog.pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a \
     WHERE a.pid = $1 AND (EXTRACT(epoch FROM a.backend_start) * 1000000)::bigint = $2";

/// Settings of the session, those that the server's version has.
///
/// A role's own time limits would end a wait or the session of a hold. The TCP settings decide when the server gives up a
/// client that has gone silent: later than that client gives up its holds, which is `ttl` after its last successful
/// heartbeat, and soon after. `synchronous_commit = off` would answer before a token is on disk.
pub fn settings(ttl: std::time::Duration) -> String {
    let silent = ttl.as_millis().div_ceil(1000) + 1;
    let interval = (silent / 5).clamp(1, 10);
    let values = [
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", "0".to_owned()),
        ("idle_session_timeout", "0".to_owned()),
        ("idle_in_transaction_session_timeout", "0".to_owned()),
        ("transaction_timeout", "0".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_deferrable", "off".to_owned()),
        ("tcp_keepalives_idle", silent.to_string()),
        ("tcp_keepalives_interval", interval.to_string()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", (silent * 1000).to_string()),
        ("client_connection_check_interval", "1000".to_owned()),
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

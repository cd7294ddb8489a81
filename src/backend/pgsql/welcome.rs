//! What happens on a new connection before it is used: is this a server that can keep locks, and on our terms?

use super::backend_key;
use super::dial::{self, Dialled};
use super::failure;
use super::login::{Login, Pooler};
use super::session::{Ghost, Instance, Session};
use super::sql::{self, Call, Verb};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::url::Address;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

/// How often two connections through a pooler are compared.
const COMPARISONS: usize = 5;

struct Introduction {
    ghost: Ghost,
    is_replica: bool,
    server: Instance,
}

/// Connects to `address` and makes the connection a session, within `limit`, with what it is to do `first` prepared.
///
/// # Errors
/// As [`dial::dial`], and `Server` for a read-only replica (its locks exclude nobody elsewhere) and for a connection pooler
/// that does not keep one server session per client.
pub async fn welcome(login: &Rc<Login>, address: &Address, limit: Duration, first: Call) -> Result<Rc<Session>> {
    let work = async {
        let mut dialled = dial::dial(login, address, limit).await?;
        let peer = dialled.peer.clone();
        let sent = clock::now();
        let introduction = introduce(login, &mut dialled).await?;
        if introduction.is_replica {
            let message = format!("PostgreSQL at {peer} is a read-only replica: its locks exclude nobody elsewhere");
            return Err(Error::new(Kind::Server, message));
        }
        if login.pooler.get() == Pooler::None
            && backend_key::pid_of(&dialled.client).await != Some(introduction.ghost.pid)
        {
            refuse_shared_sessions(login, address, limit, &mut dialled, introduction.ghost.pid).await?;
            login.pooler.set(Pooler::PerSession);
        }
        let session = Session::start(login.clone(), dialled, introduction.ghost, introduction.server, sent);
        let free = Call {
            verb: Verb::Free,
            fenced: false,
            ..first
        };
        let settings = sql::settings(login.ttl());
        let (set, prepared) = tokio::join!(session.execute(&settings), session.prepare(first, free),);
        set?;
        prepared?;
        Ok(session)
    };
    timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!(
            "PostgreSQL at {}:{} did not answer in {limit:?} (connect_timeout)",
            address.host, address.port
        );
        Err(Error::new(Kind::Connect, message))
    })
}

/// Asks who answers. The connection is not yet anybody's, so it is moved by this very future.
async fn introduce(login: &Login, dialled: &mut Dialled) -> Result<Introduction> {
    let answer = ask(dialled, sql::INTRODUCTION).await;
    let rows = answer.map_err(|failure| failure::describe(login, &dialled.peer, &failure))?;
    let understood = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(Introduction {
            ghost: Ghost {
                pid: row.get(0)?.parse().ok()?,
                started: row.get(2)?.parse().ok()?,
            },
            is_replica: row.get(1)? == "t",
            server: Instance {
                version: row.get(3)?.parse().ok()?,
                started: row.get(4)?.parse().ok()?,
            },
        }),
        _ => None,
    });
    understood.ok_or_else(|| failure::not_postgresql(&dialled.peer))
}

async fn ask(dialled: &mut Dialled, sql: &str) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
    tokio::select! {
        biased;
        answer = dialled.client.simple_query(sql) => answer,
        Err(failure) = &mut dialled.pump => Err(failure),
    }
}

/// Somebody between us and the server has given us a process id of his own. That is well as long as a server session stays
/// ours while we are idle; otherwise another client would be handed the session with our locks, and enter at once.
///
/// A pooler that shares sessions gives away the one just used first, or takes turns: either our own session changes
/// from one statement to the next, or a second connection finds itself in ours.
async fn refuse_shared_sessions(
    login: &Rc<Login>,
    address: &Address,
    limit: Duration,
    ours: &mut Dialled,
    pid: i32,
) -> Result<()> {
    let mut other = dial::dial(login, address, limit).await?;
    for _ in 0..COMPARISONS {
        let seen = [
            session_of(login, &mut other).await?,
            session_of(login, ours).await?,
            session_of(login, ours).await?,
        ];
        if seen[0] == pid || seen[1] != pid || seen[2] != pid {
            let message = format!(
                "a connection pooler at {} shares server sessions between clients: locks need one session each \
                 (pool_mode = session), or a direct connection",
                ours.peer
            );
            return Err(Error::new(Kind::Server, message));
        }
    }
    Ok(())
}

async fn session_of(login: &Login, dialled: &mut Dialled) -> Result<i32> {
    let answer = ask(dialled, "SELECT pg_catalog.pg_backend_pid()").await;
    let rows = answer.map_err(|failure| failure::describe(login, &dialled.peer, &failure))?;
    let pid = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    pid.ok_or_else(|| failure::not_postgresql(&dialled.peer))
}

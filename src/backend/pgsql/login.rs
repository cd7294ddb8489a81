//! As whom, where and how to connect, resolved once per server; and what a failure there means to a lock.

use crate::backend::{Context, tls};
use crate::core::lease::Terms;
use crate::error::{Error, Kind, Result};
use crate::options::{Credentials, RemoteOptions, Tls};
use crate::secret::Secret;
use crate::url::{Address, Server};
use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error as StdError;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error as Failure};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What tells a session from all others of its server, also from a later one with the same process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    pub pid: i32,
    /// Microseconds since 1970, by the server's clock.
    pub started: i64,
}

/// What is told of the end of a session.
type OnEnd = Box<dyn Fn(SessionId, &Error)>;

/// Everything that the sessions of one server have in common.
pub struct Login {
    pub addresses: Vec<Address>,
    pub options: RemoteOptions,
    pub terms: Terms,
    pub context: Context,
    /// For the driver: user, password, database, `application_name`.
    pub config: Config,
    /// Sessions that ended on this side without the server's word for it: they may still hold, or wait for, their locks.
    pub left_behind: RefCell<Vec<SessionId>>,
    /// Is told of the end of each session, once that is complete, and why.
    pub on_end: OnceCell<OnEnd>,
    /// Whether something stands between us and the server, found out with the first connection.
    pub pooler: Cell<Pooler>,
    /// Whether the server has ever let us in: what was once fit for locks will be so again.
    pub was_in: Cell<bool>,
    secret: Option<Secret>,
    credentials: Credentials,
    tls: RefCell<Option<MakeRustlsConnect>>,
}

/// What is known about a connection pooler in front of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooler {
    /// Nobody has looked yet, or there is none.
    None,
    /// There is one, and it keeps one server session per client connection.
    PerSession,
}

impl Login {
    /// `name` is what the sessions are called unless the user has chosen a name.
    ///
    /// Without a user in the URL: `PGUSER`, else the user that the process runs as (the driver's own default). Without a
    /// password: `PGPASSWORD`, else none.
    pub fn new(server: &Server, context: Context, name: String) -> Self {
        let mut config = Config::new();
        if let Some(user) = server.credentials.user.clone().or_else(|| variable("PGUSER")) {
            config.user(user);
        }
        let secret = server
            .credentials
            .password
            .clone()
            .or_else(|| variable("PGPASSWORD").map(Secret::new));
        if let Some(secret) = &secret {
            config.password(secret.reveal());
        }
        let given = server.options.application_name.clone();
        config
            .dbname(server.database.as_deref().unwrap_or("template1"))
            .application_name(given.unwrap_or(name))
            .ssl_mode(match server.options.tls {
                Tls::Off => SslMode::Disable,
                Tls::Prefer => SslMode::Prefer,
                Tls::Verify | Tls::Chain | Tls::Insecure => SslMode::Require,
            });
        let ttl = server.options.ttl;
        Self {
            addresses: server.addresses.clone(),
            options: server.options.clone(),
            terms: Terms {
                ttl,
                renew_every: ttl / 3,
            },
            context,
            config,
            left_behind: RefCell::default(),
            on_end: OnceCell::new(),
            pooler: Cell::new(Pooler::None),
            was_in: Cell::new(false),
            secret,
            credentials: server.credentials.clone(),
            tls: RefCell::default(),
        }
    }

    /// The driver's configuration for a connection that is made now: user and password may come from a function of the program.
    pub async fn current(&self) -> Result<Config> {
        let mut config = self.config.clone();
        if self.credentials.provider.is_some() {
            let given = self.credentials.current().await?;
            if let Some(user) = given.user {
                config.user(user);
            }
            if let Some(password) = given.password {
                config.password(password.reveal());
            }
        }
        Ok(config)
    }

    /// Reads the certificate files again: they may have been replaced since the last connection.
    pub fn refresh_tls(&self) -> Result<()> {
        if self.options.tls != Tls::Off {
            let config = tls::client_config(&self.options)?;
            *self.tls.borrow_mut() = Some(MakeRustlsConnect::new((*config).clone()));
        }
        Ok(())
    }

    pub fn tls(&self) -> Option<MakeRustlsConnect> {
        self.tls.borrow().clone()
    }

    /// How long our side believes in a connection on which nothing comes back; also for the operating system.
    pub fn ttl(&self) -> Duration {
        self.terms.ttl
    }

    /// Foreign text without the password.
    pub fn masked(&self, text: &str) -> String {
        let text = self.credentials.mask(text);
        match &self.secret {
            Some(secret) => secret.mask(&text),
            None => text,
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// How a statement failed.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is gone, and with it the session and all it held.
    Gone(Error),
    /// The statement was cancelled. What it had done to a lock before that stays done.
    Cancelled(Error),
    /// The server refused it. What it had done to a lock before that stays done.
    Refused(Error),
}

/// How often in a row a statement is executed again that was cancelled.
const MOST_CANCELS: u32 = 100;

/// Executes a statement again while it is cancelled: by an operator, or because a wait had ended that was to begin anew. `work` is
/// told whether it was cancelled before, perhaps in the moment in which it had done what it does.
pub async fn uncancelled<T>(mut work: impl AsyncFnMut(bool) -> Result<T, Fault>) -> Result<T, Fault> {
    let mut cancels = 0;
    loop {
        match work(cancels > 0).await {
            Err(Fault::Cancelled(_)) if cancels < MOST_CANCELS => cancels += 1,
            outcome => return outcome,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone(error) | Fault::Cancelled(error) | Fault::Refused(error) => error,
        }
    }
}

/// What the failure of a statement means.
pub fn fault_of(login: &Login, peer: &str, failure: &Failure) -> Fault {
    let error = describe(login, peer, failure);
    match failure.code() {
        Some(code) if *code == SqlState::QUERY_CANCELED => Fault::Cancelled(error),
        Some(code) if ends_session(code) => Fault::Gone(error),
        Some(_) => Fault::Refused(error),
        None if is_misunderstanding(failure) => Fault::Refused(error),
        None => Fault::Gone(error),
    }
}

/// What the end of a connection, or of an attempt to make one, means.
pub fn describe(login: &Login, peer: &str, failure: &Failure) -> Error {
    if let Some(error) = failure.as_db_error() {
        let kind = kind_of(error.code());
        let what = match kind {
            Kind::Auth => format!("PostgreSQL at {peer} refuses access"),
            Kind::Connect => format!("PostgreSQL at {peer} is not available"),
            _ => format!("PostgreSQL at {peer} reports: {}", login.masked(error.message())),
        };
        let mut cause = format!("{} (SQLSTATE {})", error.message(), error.code().code());
        for more in [error.detail(), error.hint()].into_iter().flatten() {
            cause.push_str("; ");
            cause.push_str(more);
        }
        return Error::new(kind, what).because(login.masked(&cause));
    }
    if let Some(error) = tls::describe(failure, peer) {
        return error;
    }
    let cause = login.masked(&chain(failure));
    // The kind of these failures is private to the driver; their texts are what can be told apart.
    match failure.to_string().as_str() {
        "error performing TLS handshake" => {
            Error::new(Kind::Tls, format!("TLS to PostgreSQL at {peer} failed")).because(cause)
        }
        "authentication error" | "invalid configuration" => {
            Error::new(Kind::Auth, format!("PostgreSQL at {peer} refuses access")).because(cause)
        }
        _ if is_misunderstanding(failure) => not_postgresql(peer).because(cause),
        _ => Error::new(
            Kind::Connect,
            format!("the connection to PostgreSQL at {peer} was lost"),
        )
        .because(cause),
    }
}

/// Whatever answers there, it is something else.
pub fn not_postgresql(peer: &str) -> Error {
    Error::new(Kind::Server, format!("what answers at {peer} is not PostgreSQL"))
}

fn is_misunderstanding(failure: &Failure) -> bool {
    let text = failure.to_string();
    text == "unexpected message from server"
        || text == "error parsing response from server"
        || text.starts_with("error deserializing")
        || chain(failure).contains("invalid message")
}

/// Codes after which the server itself closes the connection.
fn ends_session(code: &SqlState) -> bool {
    let ends = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_SESSION_TIMEOUT,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::DATABASE_DROPPED,
    ];
    ends.contains(code) || code.code().starts_with("08")
}

fn kind_of(code: &SqlState) -> Kind {
    match code.code() {
        code if code.starts_with("28") => Kind::Auth,
        "42501" => Kind::Auth,
        // Connection exceptions, shutdown and start-up, too many connections: all of them pass.
        code if code.starts_with("08") => Kind::Connect,
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "53300" => Kind::Connect,
        _ => Kind::Server,
    }
}

/// A failure and what caused it, in one line. An `io::Error` hides nothing here: its text is that of what it wraps.
fn chain(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut next = failure.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

//! As whom, where and how to connect, resolved once per server.

use super::name;
use super::session::Ghost;
use crate::backend::{Context, tls};
use crate::core::lease::Terms;
use crate::error::Result;
use crate::options::{RemoteOptions, Tls};
use crate::secret::Secret;
use crate::url::{Address, Server};
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Everything that the sessions of one server have in common.
pub struct Login {
    pub addresses: Vec<Address>,
    pub options: RemoteOptions,
    pub terms: Terms,
    pub context: Context,
    /// For the driver: user, password, database, `application_name`.
    pub config: Config,
    /// Sessions that ended on this side without the server's word for it.
    pub ghosts: RefCell<Vec<Ghost>>,
    /// Whether something stands between us and the server, found out with the first connection.
    pub pooler: Cell<Pooler>,
    secret: Option<Secret>,
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
    /// Without a user in the URL: `PGUSER`, else the user that the process runs as (the driver's own default). Without a
    /// password: `PGPASSWORD`, else none.
    pub fn new(server: &Server, context: Context) -> Self {
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
            .application_name(given.unwrap_or_else(|| name::plain(&context.identity)))
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
            ghosts: RefCell::default(),
            pooler: Cell::new(Pooler::None),
            secret,
            tls: RefCell::default(),
        }
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
        self.secret
            .as_ref()
            .map_or_else(|| text.to_owned(), |secret| secret.mask(text))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

//! The options of a remote mutex, validated, and their defaults.

pub use crate::credentials::{Credentials, Given, Provider};
use std::path::PathBuf;
use std::time::Duration;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tls {
    /// Plain text.
    #[default]
    Off,
    /// Encrypted; the server's certificate and name are verified against `ca` or the system's roots.
    Verify,
    /// Encrypted; nothing is verified. What 1.1.2 did without `ca`; only on explicit request.
    Insecure,
    /// PostgreSQL: encrypted; the certificate is verified, but may be for another host name (libpq's `verify-ca`).
    Chain,
    /// PostgreSQL: encrypted if the server can, else in plain text; nothing is verified (libpq's `prefer`).
    Prefer,
}

/// What the query of an `rpm` URL says, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteOptions {
    /// Default: off, or [`Tls::Verify`] if one of `ca`, `crt` and `key` is given.
    pub tls: Tls,
    /// PEM file with the certificates that the server's certificate is verified against.
    pub ca: Option<PathBuf>,
    /// PEM file with the client's certificate chain. Given together with `key` or not at all.
    pub crt: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub key: Option<PathBuf>,
    /// How long a hold lives on the server without renewal. Default 10 s. PostgreSQL: how long a silent connection is
    /// believed to be alive.
    pub ttl: Duration,
    /// How long connecting, and any single exchange that cannot be waited for longer, may take. Default 5 s.
    pub connect_timeout: Duration,
    /// Consul: how long a key stays closed after its session was invalidated. Default 0.5 s.
    pub lock_delay: Duration,
    /// Consul: how long one blocking query waits at most. Default 10 s.
    pub read_wait: Duration,
    /// Ends a hold, as lost, after this time. Default: never.
    pub max_hold: Option<Duration>,
    /// Redis: the ACL user (`?user=`). Default: none, the password alone authenticates.
    pub redis_user: Option<String>,
    /// Redis: the database number (`?db=`). Default 0.
    pub redis_database: u32,
    /// PostgreSQL: what the server's views show as the name of this program. Default: `ipc-mutex <host> <pid>`.
    pub application_name: Option<String>,
    /// PostgreSQL: how many requests of the process wait at the server at a time, each on a connection. Default 8.
    pub max_waiting: u32,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            tls: Tls::Off,
            ca: None,
            crt: None,
            key: None,
            ttl: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            lock_delay: Duration::from_millis(500),
            read_wait: Duration::from_secs(10),
            max_hold: None,
            redis_user: None,
            redis_database: 0,
            application_name: None,
            max_waiting: 8,
        }
    }
}

/// Which lengths of time an option accepts, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub min: Duration,
    pub max: Duration,
    /// The server counts in whole seconds.
    pub whole_seconds: bool,
}

impl Span {
    const fn from_ms(min: u64, max: u64) -> Self {
        Self {
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
            whole_seconds: false,
        }
    }

    const DAY_MS: u64 = 86_400_000;

    /// Redis counts in milliseconds; below a tenth of a second a single slow round trip would lose the lock.
    pub const REDIS_TTL: Span = Span::from_ms(100, Self::DAY_MS);
    /// PostgreSQL has no lease: a heartbeat more often than a few times a second would be mere load.
    pub const PGSQL_TTL: Span = Span::from_ms(1_000, Self::DAY_MS);
    /// The limits of a Consul session.
    pub const CONSUL_TTL: Span = Span::from_ms(10_000, Self::DAY_MS);
    /// etcd grants whole seconds, and with its default election timeout never less than two.
    pub const ETCD_TTL: Span = Span {
        min: Duration::from_secs(2),
        max: Duration::from_millis(Self::DAY_MS),
        whole_seconds: true,
    };
    pub const CONNECT_TIMEOUT: Span = Span::from_ms(100, 3_600_000);
    /// Consul refuses more than a minute.
    pub const LOCK_DELAY: Span = Span::from_ms(0, 60_000);
    /// Consul waits for ten minutes at most.
    pub const READ_WAIT: Span = Span::from_ms(100, 600_000);
    pub const MAX_HOLD: Span = Span::from_ms(100, 365 * Self::DAY_MS);

    /// Reads a number of seconds such as `10` or `0.5`. `None` if `text` is anything else, or out of range.
    pub fn read(&self, text: &str) -> Option<Duration> {
        let plain =
            !text.is_empty() && text.len() <= 24 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let seconds: f64 = if plain { text.parse().ok()? } else { return None };
        let span = Duration::try_from_secs_f64(seconds).ok()?;
        let fits = span >= self.min && span <= self.max && !(self.whole_seconds && span.subsec_nanos() != 0);
        fits.then_some(span)
    }

    /// What is accepted, in words: `a number of seconds from 0.1 to 86400`.
    pub fn describe(&self) -> String {
        let whole = if self.whole_seconds { "whole " } else { "" };
        format!(
            "a {whole}number of seconds from {} to {}",
            self.min.as_secs_f64(),
            self.max.as_secs_f64()
        )
    }
}

//! `?<name>=<value>&...`: the options of a remote mutex, and the other way to name a lock.

use super::{Scheme, invalid, mask::shorten};
use crate::error::Result;
use crate::options::{RemoteOptions, Span, Tls};
use percent_encoding::percent_decode_str;
use std::collections::HashSet;
use std::path::PathBuf;

/// What a query says.
pub(super) struct Query {
    pub options: RemoteOptions,
    /// PostgreSQL: the lock's key where it does not come from the id.
    pub pair: Option<(i32, i32)>,
    /// The names that mean nothing to this server.
    pub unknown: Vec<String>,
}

/// Messages name the parameter, never its value.
pub(super) fn read(scheme: Scheme, query: &str) -> Result<Query> {
    let mut options = RemoteOptions::default();
    let mut tls = None;
    let mut pair = None;
    let mut unknown = Vec::new();
    let mut seen = HashSet::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, raw) = part.split_once('=').unwrap_or((part, ""));
        if !is_known(scheme, name) {
            refuse_protection(scheme, name)?;
            unknown.push(shorten(name));
            continue;
        }
        if !seen.insert(name) {
            return Err(invalid(format!("parameter {name} is given twice in URL")));
        }
        let value = value(name, raw)?;
        match name {
            "tls" => tls = Some(protection(scheme, &value)?),
            "ca" => options.ca = Some(path(name, value)?),
            "crt" => options.crt = Some(path(name, value)?),
            "key" => options.key = Some(path(name, value)?),
            "ttl" => options.ttl = span(name, &value, ttl_span(scheme))?,
            "connect_timeout" => options.connect_timeout = span(name, &value, Span::CONNECT_TIMEOUT)?,
            "lockdelay" => options.lock_delay = span(name, &value, Span::LOCK_DELAY)?,
            "readwait" => options.read_wait = span(name, &value, Span::READ_WAIT)?,
            "max_hold" => options.max_hold = Some(span(name, &value, Span::MAX_HOLD)?),
            "user" => options.redis_user = Some(user(value)?),
            "db" => options.redis_database = database(&value)?,
            "application_name" => options.application_name = Some(value),
            "max_waiting" => options.max_waiting = waits(&value)?,
            "pair" => pair = Some(integers(&value)?),
            _ => unknown.push(shorten(name)),
        }
    }
    if options.crt.is_some() != options.key.is_some() {
        return Err(invalid(
            "parameters crt and key in URL: give both (the client's certificate and its private key) or none",
        ));
    }
    let files = options.ca.is_some() || options.crt.is_some();
    options.tls = tls.unwrap_or(if files { Tls::Verify } else { Tls::Off });
    Ok(Query { options, pair, unknown })
}

fn is_known(scheme: Scheme, name: &str) -> bool {
    match name {
        "tls" | "ca" | "crt" | "key" | "ttl" | "connect_timeout" | "max_hold" => true,
        "lockdelay" | "readwait" => scheme == Scheme::Consul,
        "user" | "db" => scheme == Scheme::Redis,
        "application_name" | "pair" | "max_waiting" => scheme == Scheme::Pgsql,
        _ => false,
    }
}

/// A parameter that asks for protection and is not ours must not end as plain text with a warning. Messages name our own way.
fn refuse_protection(scheme: Scheme, name: &str) -> Result<()> {
    let lower = name.to_ascii_lowercase();
    let asks_for = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let instead = if asks_for(&["user", "pass", "auth", "token", "secret", "credential", "login"]) {
        match scheme {
            Scheme::Redis => "write rpm+redis://x:<password>@<host>, and user=<name> for an ACL user",
            Scheme::Consul => "write rpm+consul://x:<token>@<host>",
            Scheme::Pgsql => "write rpm+pgsql://<user>:<password>@<host>",
            Scheme::Etcd => "write rpm+etcd://<user>:<password>@<host>",
        }
    } else if asks_for(&[
        "ssl",
        "tls",
        "cert",
        "verif",
        "secur",
        "encrypt",
        "gss",
        "krb",
        "channel_binding",
        "peer",
    ]) || matches!(
        lower.as_str(),
        "ca" | "crt" | "key" | "cafile" | "keyfile" | "key_file" | "ca_file" | "sni" | "servername"
    ) {
        "write tls=true, with ca, crt and key for PEM files"
    } else {
        return Ok(());
    };
    // A name of other characters may be the rest of a password that was not percent-encoded.
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && name.len() <= 40;
    let what = if plain {
        format!("parameter \"{name}\"")
    } else {
        "parameter".to_owned()
    };
    Err(invalid(format!("unknown {what} in URL: {instead}")))
}

fn ttl_span(scheme: Scheme) -> Span {
    match scheme {
        Scheme::Redis => Span::REDIS_TTL,
        Scheme::Pgsql => Span::PGSQL_TTL,
        Scheme::Consul => Span::CONSUL_TTL,
        Scheme::Etcd => Span::ETCD_TTL,
    }
}

/// As in every query, `+` stands for a space; a plus sign is written `%2B`.
/// What the query of an `lpm:` URL says.
pub(super) struct Folder {
    pub dir: Option<PathBuf>,
    /// The names that mean nothing there.
    pub unknown: Vec<String>,
}

pub(super) fn folder(query: &str) -> Result<Folder> {
    let (mut dir, mut unknown) = (None, Vec::new());
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, raw) = part.split_once('=').unwrap_or((part, ""));
        if name != "dir" {
            unknown.push(shorten(name));
            continue;
        }
        let given = PathBuf::from(value(name, raw)?);
        if !given.is_absolute() {
            return Err(invalid(
                "invalid parameter dir in URL: expected the absolute path of a folder",
            ));
        }
        if dir.replace(given).is_some() {
            return Err(invalid("parameter dir is given twice in URL"));
        }
    }
    Ok(Folder { dir, unknown })
}

fn value(name: &str, raw: &str) -> Result<String> {
    let spaced = raw.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(value) if !value.contains('\0') => Ok(value.into_owned()),
        _ => Err(invalid(format!(
            "invalid parameter {name} in URL: expected percent-encoded UTF-8 without NUL"
        ))),
    }
}

fn protection(scheme: Scheme, value: &str) -> Result<Tls> {
    match (value, scheme) {
        ("true", _) => Ok(Tls::Verify),
        ("false", _) => Ok(Tls::Off),
        ("insecure", _) => Ok(Tls::Insecure),
        ("verify-ca", Scheme::Pgsql) => Ok(Tls::Chain),
        ("prefer", Scheme::Pgsql) => Ok(Tls::Prefer),
        (_, Scheme::Pgsql) => Err(invalid(
            "invalid parameter tls in URL: expected true, false, insecure (encrypted, but nothing verified), verify-ca (the \
             certificate verified, but not its host name) or prefer (encrypted if the server can, nothing verified)",
        )),
        _ => Err(invalid(
            "invalid parameter tls in URL: expected true, false or insecure (encrypted, but nothing verified)",
        )),
    }
}

fn integers(value: &str) -> Result<(i32, i32)> {
    let pair = value
        .split_once(',')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    pair.ok_or_else(|| invalid("invalid parameter pair in URL: expected two signed 32-bit integers, such as 1,-2"))
}

fn waits(value: &str) -> Result<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value
        .parse()
        .ok()
        .filter(|number| digits && (1..=10_000).contains(number));
    number.ok_or_else(|| invalid("invalid parameter max_waiting in URL: expected a number from 1 to 10000"))
}

fn path(name: &str, value: String) -> Result<PathBuf> {
    if value.is_empty() {
        return Err(invalid(format!(
            "invalid parameter {name} in URL: expected the path of a PEM file"
        )));
    }
    Ok(PathBuf::from(value))
}

fn span(name: &str, value: &str, accepted: Span) -> Result<std::time::Duration> {
    let expected = || {
        invalid(format!(
            "invalid parameter {name} in URL: expected {}",
            accepted.describe()
        ))
    };
    accepted.read(value).ok_or_else(expected)
}

fn user(value: String) -> Result<String> {
    if value.is_empty() {
        return Err(invalid(
            "invalid parameter user in URL: expected the name of a Redis ACL user",
        ));
    }
    Ok(value)
}

fn database(value: &str) -> Result<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value
        .parse()
        .ok()
        .filter(|&number: &u32| digits && number <= i32::MAX as u32);
    number.ok_or_else(|| invalid("invalid parameter db in URL: expected the number of a Redis database, such as 0"))
}

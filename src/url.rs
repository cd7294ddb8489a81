//! Text to [`Target`]: what a mutex URL means. Pure; never panics, whatever the text.
//!
//! The texts that programs written for 1.x match on are kept word for word; what would have been right stands in the
//! error's `cause` there. No message quotes user, password or the value of a query parameter.

mod authority;
mod mask;
mod query;

pub use mask::mask;

use crate::error::{Error, Kind, Result};
use crate::options::{Credentials, RemoteOptions, Tls};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;

/// The longest URL that is accepted, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// How a name begins that has a pair of numbers as its key in PostgreSQL (`?pair=<a>,<b>`): `"\u{1}pair:<a>,<b>/<name>"`. A
/// URL's path can never contain the control character, so that no lock of a URL is mistaken for such a pair.
pub const PAIR: &str = "\u{1}pair:";

/// A lock's name as its URL has it, without the key that [`PAIR`] begins.
pub fn shown(id: &str) -> &str {
    match id.strip_prefix(PAIR).and_then(|key| key.split_once('/')) {
        Some((_, name)) => name,
        None => id,
    }
}

/// What coordinates, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made once per mutex and taken apart at once")]
pub enum Target {
    /// One process with its worker threads.
    Spm { id: String },
    /// A cluster's primary and its workers.
    Mpm { id: String },
    /// The processes of one machine that use the same folder; by default that of the user.
    Lpm { id: String, dir: Option<PathBuf> },
    /// Any process on any machine.
    Remote(Remote),
}

/// Which server an `rpm` URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Redis,
    Pgsql,
    Consul,
    Etcd,
}

impl Scheme {
    pub const ALL: [Scheme; 4] = [Scheme::Redis, Scheme::Pgsql, Scheme::Consul, Scheme::Etcd];

    /// How URLs of this server begin, without the colon.
    pub const fn prefix(self) -> &'static str {
        match self {
            Scheme::Redis => "rpm+redis",
            Scheme::Pgsql => "rpm+pgsql",
            Scheme::Consul => "rpm+consul",
            Scheme::Etcd => "rpm+etcd",
        }
    }

    /// The port when the URL names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Redis => 6379,
            Scheme::Pgsql => 5432,
            Scheme::Consul => 8500,
            Scheme::Etcd => 2379,
        }
    }
}

/// One address of a server. `host` is as written, without the brackets of an IPv6 address. Where it begins with a slash, it is a Unix socket:
/// its folder for PostgreSQL, whose sockets are named by the port; the socket itself, with port 0, for Redis and Consul.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// A lock on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub server: Server,
    /// The lock's name: the path segment as the WHATWG URL parser gives it, which is the caller's to apply, not
    /// percent-decoded. Printable ASCII without spaces. For PostgreSQL it may begin with a key, see [`PAIR`].
    pub id: String,
}

/// A server and how to reach it. Equal servers share one client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    pub scheme: Scheme,
    /// At least one; more than one only for etcd and PostgreSQL.
    pub addresses: Vec<Address>,
    pub credentials: Credentials,
    /// PostgreSQL only; `template1` when the URL names none.
    pub database: Option<String>,
    pub options: RemoteOptions,
}

impl std::fmt::Display for Address {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.port == 0 {
            out.write_str(&self.host)
        } else if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

impl Scheme {
    /// The server's name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Redis => "Redis",
            Scheme::Pgsql => "PostgreSQL",
            Scheme::Consul => "Consul",
            Scheme::Etcd => "etcd",
        }
    }
}

impl std::fmt::Display for Server {
    /// What kind of server it is and where, as in "Redis at db.example:6379"; never a secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} at ", self.scheme.name())?;
        for (index, address) in self.addresses.iter().enumerate() {
            if index > 0 {
                out.write_str(",")?;
            }
            write!(out, "{address}")?;
        }
        Ok(())
    }
}

/// What a URL means, and what in it means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    pub target: Target,
    /// Names of query parameters that this server does not know, in the order of the URL. 1.x ignored them, so they are
    /// no error.
    pub unknown_parameters: Vec<String>,
    /// What follows the id in the path. 1.x ignored it, so it is no error; empty for almost every URL.
    pub ignored_path: String,
}

/// Reads a mutex URL. Every error is of [`Kind::InvalidUrl`], says what is wrong and what would be right, and
/// contains no secret.
pub fn parse(text: &str) -> Result<Parsed> {
    if let Some(id) = text.strip_prefix("spm:") {
        return Ok(local(Target::Spm { id: local_id(id)? }));
    }
    if let Some(id) = text.strip_prefix("mpm:") {
        return Ok(local(Target::Mpm { id: local_id(id)? }));
    }
    if let Some(rest) = text.strip_prefix("lpm:") {
        return machine(rest);
    }
    for scheme in Scheme::ALL {
        if let Some(rest) = text
            .strip_prefix(scheme.prefix())
            .and_then(|rest| rest.strip_prefix(':'))
        {
            return remote(scheme, text.len(), rest);
        }
    }
    let quoted = mask::shorten(&mask(text));
    let hint = meant(text).map_or_else(String::new, |meant| format!(": did you mean {meant}?"));
    Err(invalid(format!("unknown implementation strategy \"{quoted}\"{hint}")).because(
        "a mutex URL begins with \"spm:\", \"mpm:\", \"lpm:\", \"rpm+redis://\", \"rpm+pgsql://\", \"rpm+consul://\" or \"rpm+etcd://\"",
    ))
}

/// What a URL that begins as other libraries have it would be here.
fn meant(text: &str) -> Option<&'static str> {
    let (scheme, _) = text.split_once("://")?;
    match scheme.to_ascii_lowercase().trim_start_matches("rpm+") {
        "redis" | "valkey" => Some("rpm+redis://"),
        "rediss" | "valkeys" => Some("rpm+redis:// with tls=true"),
        "postgres" | "postgresql" | "pg" | "pgsql" => Some("rpm+pgsql://"),
        "consul" => Some("rpm+consul://"),
        "etcd" | "etcd3" => Some("rpm+etcd://"),
        _ => None,
    }
}

/// What follows `lpm:`.
fn machine(rest: &str) -> Result<Parsed> {
    let (id, query) = rest.split_once('?').unwrap_or((rest, ""));
    let id = local_id(id)?;
    if query.len() > MAX_LENGTH {
        return Err(invalid(format!("URL too long: {}", too_long(query.len()))));
    }
    let query::Folder { dir, unknown } = query::folder(query)?;
    Ok(Parsed {
        target: Target::Lpm { id, dir },
        unknown_parameters: unknown,
        ignored_path: String::new(),
    })
}

fn local(target: Target) -> Parsed {
    Parsed {
        target,
        unknown_parameters: Vec::new(),
        ignored_path: String::new(),
    }
}

fn local_id(id: &str) -> Result<String> {
    if id.is_empty() {
        return Err(invalid("no mutex id given").because("an id follows the colon, such as \"foo\" in spm:foo"));
    }
    if id.len() > MAX_LENGTH {
        return Err(invalid(format!("invalid mutex id given: {}", too_long(id.len()))));
    }
    let ordinary = id.starts_with(|first: char| first.is_ascii_alphabetic())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if ordinary {
        Ok(id.to_owned())
    } else {
        Err(invalid(
            "invalid mutex id given: an id starts with a letter a-z or A-Z and continues with letters, digits and hyphens",
        ))
    }
}

/// `rest` is what follows `rpm+<server>:`.
fn remote(scheme: Scheme, length: usize, rest: &str) -> Result<Parsed> {
    if length > MAX_LENGTH {
        return Err(invalid(format!("URL too long: {}", too_long(length))));
    }
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (hierarchy, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match hierarchy.strip_prefix("//") {
        Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
        None => ("", hierarchy),
    };
    // A password that begins with a slash looks like this, and would be shown as the lock's name.
    if authority.ends_with(':') && path.contains('@') {
        return Err(invalid(
            "invalid port in URL: it is empty (in user and password, write \"@\", \":\", \"/\", \"?\" and \"#\" percent-encoded)",
        ));
    }
    let Path { database, id, ignored } = pathname(scheme, path)?;
    let (credentials, addresses) = authority::read(scheme, authority)?;
    let query = query::read(scheme, query)?;
    if query.options.tls != Tls::Off && addresses.iter().any(|address| address.port == 0) {
        return Err(invalid(
            "a Unix socket is not encrypted: leave out tls, ca, crt and key",
        ));
    }
    let server = Server {
        scheme,
        addresses,
        credentials,
        database,
        options: query.options,
    };
    let id = match query.pair {
        Some((a, b)) => format!("{PAIR}{a},{b}/{id}"),
        None => id,
    };
    Ok(Parsed {
        target: Target::Remote(Remote { server, id }),
        unknown_parameters: query.unknown,
        ignored_path: ignored,
    })
}

/// What the path of a URL says.
struct Path {
    database: Option<String>,
    id: String,
    /// What follows the id, with its slash.
    ignored: String,
}

/// Database (PostgreSQL only) and id. Elsewhere the id is the first segment and 1.x ignores what follows, so a fleet
/// that mixes versions must do the same.
fn pathname(scheme: Scheme, path: &str) -> Result<Path> {
    let form = match scheme {
        Scheme::Pgsql => "[/<database>]/<id>",
        _ => "/<id>",
    };
    if path.is_empty() {
        return Err(invalid("missing pathname in URL").because(format!("the host is followed by {form}")));
    }
    let refuse = |reason: &str| {
        let expected = format!("the host is followed by {form}, {reason}");
        invalid("invalid pathname in URL").because(expected)
    };
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if !path.starts_with('/') || segments.is_empty() || segments[0].is_empty() {
        return Err(refuse("which must not be empty"));
    }
    let (database, id) = match (scheme, segments.as_slice()) {
        (Scheme::Pgsql, [id]) => (Some("template1".to_owned()), *id),
        (Scheme::Pgsql, [database, id]) => (Some(database_name(database)?), *id),
        (Scheme::Pgsql, _) => return Err(refuse("and by nothing else")),
        (_, [id, ..]) => (None, *id),
        (_, []) => return Err(refuse("which must not be empty")),
    };
    if id.is_empty() {
        return Err(refuse("which must not be empty"));
    }
    if !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refuse("in printable ASCII characters without spaces"));
    }
    let ignored = match (scheme, path[1..].split_once('/')) {
        (Scheme::Pgsql, _) | (_, None | Some((_, ""))) => String::new(),
        (_, Some((_, rest))) => format!("/{rest}"),
    };
    Ok(Path {
        database,
        id: id.to_owned(),
        ignored,
    })
}

fn database_name(raw: &str) -> Result<String> {
    decode(raw, "database")
}

/// Percent-decodes `raw` without ever quoting it. `what` names it in the message.
fn decode(raw: &str, what: &str) -> Result<String> {
    let decoded = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| invalid(format!("invalid {what} in URL: not UTF-8 after percent-decoding")))?;
    if decoded.contains('\0') {
        return Err(invalid(format!(
            "invalid {what} in URL: must not contain a NUL character"
        )));
    }
    Ok(decoded.into_owned())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidUrl, message)
}

fn too_long(length: usize) -> String {
    format!("{length} bytes, at most {MAX_LENGTH} are accepted")
}

#[cfg(test)]
mod tests;

//! `[<user>[:<password>]@]<host>[:<port>][,<host>[:<port>]...]`

use super::{Address, Scheme, decode, invalid};
use crate::error::Result;
use crate::options::Credentials;
use crate::secret::Secret;
use std::net::Ipv6Addr;

/// Credentials and addresses. Messages quote nothing: without an `@`, what looks like host and port may be user and
/// password.
pub(super) fn read(scheme: Scheme, text: &str) -> Result<(Credentials, Vec<Address>)> {
    let (userinfo, hosts) = match text.rsplit_once('@') {
        Some((userinfo, hosts)) => (Some(userinfo), hosts),
        None => (None, text),
    };
    let credentials = match userinfo {
        Some(userinfo) => credentials(scheme, userinfo)?,
        None => Credentials::default(),
    };
    Ok((credentials, addresses(scheme, hosts)?))
}

/// Redis and Consul know no user here: 1.x ignored what stands before the colon, and people write `x:`.
fn credentials(scheme: Scheme, userinfo: &str) -> Result<Credentials> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let has_ignored_user = scheme == Scheme::Redis && !matches!(user, "" | "x" | "default");
    let user = match scheme {
        Scheme::Redis | Scheme::Consul => None,
        Scheme::Pgsql | Scheme::Etcd => Some(decode(user, "user")?),
    };
    let password = decode(password, "password")?;
    Ok(Credentials {
        user: user.filter(|user| !user.is_empty()),
        password: (!password.is_empty()).then(|| Secret::new(password)),
        provider: None,
        has_ignored_user,
    })
}

fn addresses(scheme: Scheme, hosts: &str) -> Result<Vec<Address>> {
    let example = match scheme {
        Scheme::Etcd => "rpm+etcd://localhost/foo or rpm+etcd://host1:2379,host2:2379/foo".to_owned(),
        _ => format!("{}://localhost/foo", scheme.prefix()),
    };
    if hosts.is_empty() {
        return Err(invalid(format!("missing host in URL: expected for example {example}")));
    }
    if hosts.contains(',') && !matches!(scheme, Scheme::Etcd | Scheme::Pgsql) {
        let prefix = scheme.prefix();
        return Err(invalid(format!(
            "invalid host in URL: {prefix} takes one host, only rpm+etcd and rpm+pgsql take a list"
        )));
    }
    hosts.split(',').map(|host| address(scheme, host, &example)).collect()
}

fn address(scheme: Scheme, text: &str, example: &str) -> Result<Address> {
    // A Unix socket, or its folder, as libpq has it in its URLs: "%2Fvar%2Frun%2Fpostgresql".
    let socket;
    let (host, port) = match text.strip_prefix('[').map(|inner| inner.split_once(']')) {
        Some(Some((host, after))) if host.parse::<Ipv6Addr>().is_ok() => {
            let port = if after.is_empty() {
                Some("")
            } else {
                after.strip_prefix(':')
            };
            (Some(host), port)
        }
        Some(_) => (None, Some("")),
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            if scheme != Scheme::Etcd && host.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2f")) {
                socket = decode(host, "host")?;
                (Some(socket.as_str()), Some(port))
            } else {
                (is_name(host).then_some(host), Some(port))
            }
        }
    };
    let Some(host) = host else {
        return Err(invalid(format!(
            "invalid host in URL: expected a name, an IPv4 address or an IPv6 address in brackets, for example {example}"
        )));
    };
    let is_socket = host.starts_with('/') && scheme != Scheme::Pgsql;
    let port = match port {
        Some("") if is_socket => 0,
        Some(_) if is_socket => return Err(invalid("invalid port in URL: the Unix socket of this server has none")),
        Some("") => scheme.default_port(),
        port => port.and_then(number).ok_or_else(|| {
            invalid(
                "invalid port in URL: expected a number from 1 to 65535 \
                 (in user and password, write \"@\", \":\", \"/\", \"?\" and \"#\" percent-encoded)",
            )
        })?,
    };
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

/// Underscores are no part of a host name's grammar, but container networks use them.
fn is_name(host: &str) -> bool {
    let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !host.is_empty() && host.len() <= 253 && host.bytes().all(ordinary)
}

fn number(port: &str) -> Option<u16> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|&port: &u16| digits && port > 0)
}

//! How a URL that may be wrong in every way is shown without its secrets.

/// The longest quote in a message, in characters.
const QUOTE: usize = 120;

/// Query parameters whose values are no secrets.
const HARMLESS: [&str; 14] = [
    "tls",
    "ca",
    "crt",
    "key",
    "ttl",
    "connect_timeout",
    "lockdelay",
    "readwait",
    "max_hold",
    "user",
    "db",
    "application_name",
    "pair",
    "max_waiting",
];

/// `text` with everything that may be a password replaced by `***`: what stands between the scheme (or the beginning)
/// and the last `@`, except an ordinary user name with a colon; without an `@`, a port that is no number;
/// and the values of query parameters that are not known to be harmless.
pub fn mask(text: &str) -> String {
    let start = scheme_length(text);
    let (scheme, rest) = text.split_at(start);
    let (userinfo, rest) = match rest.rsplit_once('@') {
        Some((userinfo, rest)) => (masked_userinfo(userinfo), rest.to_owned()),
        None if start > 0 => (String::new(), masked_port(rest)),
        None => (String::new(), rest.to_owned()),
    };
    format!("{scheme}{userinfo}{}", masked_query(&rest))
}

/// `text`, at most a hundred-odd characters of it, control characters escaped.
pub(super) fn shorten(text: &str) -> String {
    let mut out = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == QUOTE {
            out.push('…');
            break;
        }
        match char {
            '"' | '\'' | '\\' => out.push(char),
            _ => out.extend(char.escape_debug()),
        }
    }
    out
}

/// The length of `<scheme>://`, zero if `text` does not begin so.
fn scheme_length(text: &str) -> usize {
    match text.split_once("://") {
        Some((scheme, _))
            if scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) =>
        {
            scheme.len() + 3
        }
        _ => 0,
    }
}

fn masked_userinfo(userinfo: &str) -> String {
    let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._~%".contains(&byte);
    match userinfo.split_once(':') {
        Some((user, _)) if user.len() <= 64 && user.bytes().all(ordinary) => format!("{user}:***@"),
        _ => "***@".to_owned(),
    }
}

/// `x:secret` for `x:secret@host`: the half that was forgotten must not show the other.
fn masked_port(rest: &str) -> String {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let bracket = authority.rfind(']').unwrap_or(0);
    match authority[bracket..].find(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(bracket + colon);
            let plain = port[1..].bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 6;
            let port = if plain { port } else { ":***" };
            format!("{host}{port}{tail}")
        }
        None => rest.to_owned(),
    }
}

fn masked_query(rest: &str) -> String {
    let Some((before, query)) = rest.split_once('?') else {
        return rest.to_owned();
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if !HARMLESS.contains(&name) => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    let masked: Vec<String> = query.split('&').map(pair).collect();
    format!("{before}?{}", masked.join("&"))
}

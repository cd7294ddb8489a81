//! What the scripts answer, as types.

use redis::Value;
use std::time::Duration;

/// Microseconds since 1970 on the server's clock; here only to tell one question of a waiter from the next.
pub(super) type Micros = u64;

/// How a waiter stands, from which follows how it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// No other waiter that listens is before it.
    pub first: bool,
    /// A 1.1.2 process holds the lock: it will not say when it is done.
    pub foreign: bool,
    /// How long the main key still lives; `None` if it is gone or never runs out.
    pub left: Option<Duration>,
}

/// What one owner has at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Held { token: Option<u64> },
    Queued(Place),
    Busy,
    Gone,
}

/// The answer of `acquire.lua`.
pub(super) fn acquired(value: &Value) -> Option<(Micros, Standing)> {
    let (shown, standings) = renewed(value)?;
    match standings.as_slice() {
        [standing] => Some((shown, *standing)),
        _ => None,
    }
}

/// The answer of `renew.lua`: the server's clock and how each owner stands.
pub(super) fn renewed(value: &Value) -> Option<(Micros, Vec<Standing>)> {
    let (shown, standings) = array(value)?.split_first()?;
    let standings: Option<Vec<Standing>> = standings.iter().map(standing).collect();
    Some((number(shown)?, standings?))
}

/// The answer of `release.lua`: whether the owner was a holder.
pub(super) fn released(value: &Value) -> Option<bool> {
    match value {
        Value::Int(freed) => Some(*freed == 1),
        _ => None,
    }
}

/// What is published for a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// The lock is its own; this answers the question that was asked at `asked`.
    Granted { token: Option<u64>, asked: Micros },
    /// It is the first now, or was and has to wait for a gap.
    Moved(Place),
    /// Somebody else has taken the lock from it.
    Stolen,
}

/// The owner that a published message is for, and what it says: `<owner> <token> <asked>`, `<owner> first <foreign> <ms left>`,
/// `<owner> after <ms>` or `<owner> stolen`.
pub(super) fn message(text: &str) -> Option<(&str, Message)> {
    let (owner, words) = text.split_once(' ')?;
    let words: Vec<&str> = words.split(' ').collect();
    let first = |foreign, left: &str| {
        let left = left.parse().ok().map(Duration::from_millis);
        Message::Moved(Place {
            first: true,
            foreign,
            left,
        })
    };
    let message = match words.as_slice() {
        ["stolen"] => Message::Stolen,
        ["after", left] => first(false, left),
        ["first", foreign, left] => first(*foreign == "1", left),
        [minted, asked] => Message::Granted {
            token: token(minted)?,
            asked: asked.parse().ok()?,
        },
        _ => return None,
    };
    Some((owner, message))
}

/// Text of a simple or bulk string.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Elements of an array.
pub(super) fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// `-` for an ask that wanted none.
pub(super) fn token(word: &str) -> Option<Option<u64>> {
    match word {
        "-" => Some(None),
        digits => digits.parse().ok().map(Some),
    }
}

fn standing(value: &Value) -> Option<Standing> {
    let (name, details) = array(value)?.split_first()?;
    match (text(name)?, details) {
        ("held", [minted]) => Some(Standing::Held {
            token: token(text(minted)?)?,
        }),
        ("queued", [Value::Int(first), Value::Int(foreign), Value::Int(left)]) => Some(Standing::Queued(Place {
            first: *first == 1,
            foreign: *foreign == 1,
            left: u64::try_from(*left).ok().map(Duration::from_millis),
        })),
        ("busy", []) => Some(Standing::Busy),
        ("gone", []) => Some(Standing::Gone),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    text(value)?.parse().ok()
}

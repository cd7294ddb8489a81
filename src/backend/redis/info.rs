//! What the server keeps about a holder or waiter for [`query`](crate::backend::Backend::query), and how it is read back.

use super::answer::{array, text, token};
use super::legacy;
use crate::backend::{Ask, Identity, Info, Snapshot};
use crate::core::mode::Mode;
use redis::Value;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Written with every ask, read by whoever asks; never used to decide anything.
#[derive(Serialize, Deserialize, Default)]
struct About<'a> {
    #[serde(borrow)]
    host: Option<Cow<'a, str>>,
    pid: Option<u32>,
    thread: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    label: Option<Cow<'a, str>>,
    since: Option<u64>,
}

/// The letter that stands for a mode in scripts and entries.
pub(super) fn letter(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "x",
        Mode::Shared => "s",
    }
}

/// The JSON text that tells who asks.
pub(super) fn write(ask: &Ask, identity: &Identity) -> String {
    let about = About {
        host: Some(identity.host.as_str().into()),
        pid: Some(identity.pid),
        thread: Some(ask.thread),
        label: ask.label.as_deref().map(Into::into),
        since: Some(ask.since),
    };
    // Text and numbers are always JSON; an empty object would only mean that less is shown.
    serde_json::to_string(&about).unwrap_or_else(|_| "{}".to_owned())
}

/// The answer of `query.lua`.
pub(super) fn read(value: &Value) -> Option<Snapshot> {
    let [main, readers, waiters] = array(value)? else {
        return None;
    };
    let mut held: Vec<Info> = array(readers)?.iter().filter_map(entry).collect();
    held.extend(exclusive(text(main)?));
    let waiter = |value| entry(value).map(|info| Info { token: None, ..info });
    let pending = array(waiters)?.iter().filter_map(waiter).collect();
    Some(Snapshot { held, pending })
}

/// `<mode> <fenced> <ttl> <channel> <token> <info>`
fn entry(value: &Value) -> Option<Info> {
    let words: Vec<&str> = text(value)?.splitn(6, ' ').collect();
    let [mode, _, _, _, minted, about] = words.as_slice() else {
        return None;
    };
    let mode = if *mode == "s" { Mode::Shared } else { Mode::Exclusive };
    Some(info(mode, token(minted).flatten(), about))
}

/// Who holds the lock according to the main key: one of ours, nobody or the readers (none), or a 1.1.2 process.
fn exclusive(main: &str) -> Option<Info> {
    let mut words = main.splitn(4, ' ');
    match words.next() {
        None | Some("" | "ipc-mutex:s") => None,
        Some("ipc-mutex:x") => {
            let _owner = words.next()?;
            let minted = token(words.next()?).flatten();
            Some(info(Mode::Exclusive, minted, words.next()?))
        }
        Some(stamp) => Some(legacy::holder(stamp)),
    }
}

fn info(mode: Mode, token: Option<u64>, about: &str) -> Info {
    let about: About = serde_json::from_str(about).unwrap_or_default();
    Info {
        mode,
        token,
        host: about.host.map(Cow::into_owned),
        pid: about.pid,
        thread: about.thread,
        label: about.label.map(Cow::into_owned),
        since: about.since,
    }
}

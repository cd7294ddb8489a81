//! Locks on servers: each function hands a command to the runtime; answers come through the inbox.

use super::environment::{self, find, runtime};
use super::event::Event;
use super::questions;
use super::raw::{Function, Js, Value, entry};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::{Error, Kind};
use crate::runtime::express::{Departure, Express, Way};
use crate::runtime::{Attempt, Call, Command, MutexId};
use crate::secret::Secret;
use crate::url::{self, Target};
use std::ptr;

/// Which way a call went, for `lib/models/rpm.js`: nothing for the runtime, text for the express lane to be written at once, or this.
const TOGETHER: i32 = 0;
const NO_LINE: i32 = 1;
/// How much a request insists; anything else is a try.
const WAIT: u32 = 1;
const STEAL: u32 = 2;

pub const FUNCTIONS: &[Function] = &[
    ("remoteOpen", open),
    ("remoteCredentials", credentials),
    ("remoteRequest", request),
    ("remoteCancel", cancel),
    ("remoteRelease", release),
    ("remoteBelieved", believed),
    ("remoteQuery", query),
    ("remoteList", list),
    ("remoteClose", close),
];

fn call(js: Js, env: Value, number: Value) -> Call {
    Call {
        env: js.u32(env),
        cookie: js.u32(number),
    }
}

/// Calls that concern an open mutex; without a runtime there is none.
fn express(js: Js, call: impl FnOnce(&Express) -> Way) -> Value {
    let way = environment::running().map_or(Way::Runtime, |runtime| call(&runtime.express));
    match way {
        Way::Runtime => ptr::null_mut(),
        Way::NoLine => js.int(NO_LINE),
        Way::Lane(Departure::Together) => js.int(TOGETHER),
        Way::Lane(Departure::Now(bytes)) => js.latin1(&bytes),
    }
}

entry! {
    /// `remoteOpen(env, call, url, label, provider, joins)`: the mutex's number; `call` hears when it is open. `provider`, if it is not 0, hears
    /// questions for credentials. `joins`: another mutex of the caller is open at this server, so this one can be used at once.
    open(6) |js, args| {
        let call = call(js, args[0], args[1]);
        let text = js.string(args[2]).unwrap_or_default();
        let fail = |error: Error| {
            if let Some(environment) = find(call.env) {
                environment.inbox.push(Event::Failed(call.cookie, error));
            }
            js.int(0)
        };
        let mut remote = match url::parse(&text).map(|parsed| parsed.target) {
            Ok(Target::Remote(remote)) => Box::new(remote),
            Ok(_) => return fail(Error::new(Kind::InvalidUrl, "not the URL of a lock on a server")),
            Err(error) => return fail(error),
        };
        remote.server.credentials.provider = questions::provider(call.env, js.u32(args[4]));
        let Some(runtime) = runtime() else {
            return fail(Error::new(Kind::Connect, "the operating system refuses a thread for remote locks"));
        };
        let mutex = runtime.new_mutex();
        let thread = find(call.env).map_or(0, |environment| environment.thread);
        let (label, joins) = (js.string(args[3]), js.bool(args[5]));
        runtime.send(Command::Open { mutex, call, remote, label, thread, joins });
        js.number(f64::from(mutex.0))
    }
}

entry! {
    /// `remoteCredentials(question, user, password, failure)`: the answer to a question; `failure` is text if there is none.
    credentials(4) |js, args| {
        let given = match js.string(args[3]) {
            Some(failure) => Err(failure),
            None => Ok((js.string(args[1]), js.string(args[2]).map(Secret::new))),
        };
        questions::answer(js.u32(args[0]), given);
        ptr::null_mut()
    }
}

entry! {
    /// `remoteRequest(env, call, mutex, shared, attempt, fenced, line)`: which way it went. `line` is the number of the thread's connection
    /// in the lane, 0 for none.
    request(7) |js, args| {
        let call = call(js, args[0], args[1]);
        let mode = if js.bool(args[3]) { Mode::Shared } else { Mode::Exclusive };
        let attempt = match js.u32(args[4]) {
            WAIT => Attempt::Wait,
            STEAL => Attempt::Steal,
            _ => Attempt::Try,
        };
        let line = line(js, args[6]);
        express(js, |express| express.request(MutexId(js.u32(args[2])), call, mode, attempt, js.bool(args[5]), line))
    }
}

entry! {
    /// `remoteCancel(env, call, request)`: `call` hears when the server has no trace of the request.
    cancel(3) |js, args| {
        let request = call(js, args[0], args[2]);
        forget(request);
        express(js, |express| {
            express.cancel(request, call(js, args[0], args[1]));
            Way::Runtime
        })
    }
}

entry! {
    /// `remoteRelease(env, request, line)`: which way it went; the request hears how. `line` as above.
    release(3) |js, args| {
        let request = call(js, args[0], args[1]);
        forget(request);
        let line = line(js, args[2]);
        express(js, |express| express.release(request, line))
    }
}

fn line(js: Js, value: Value) -> Option<u32> {
    Some(js.u32(value)).filter(|line| *line != 0)
}

fn forget(request: Call) {
    if let Some(environment) = find(request.env) {
        environment.leases.lock().remove(&request.cookie);
    }
}

entry! {
    /// `remoteBelieved(env, request)`: whether the lease of the hold is not over yet, now.
    believed(2) |js, args| js.flag(environment::is_believed(js.u32(args[0]), js.u32(args[1]), clock::now()))
}

entry! {
    /// `remoteQuery(env, call, mutex)`.
    query(3) |js, args| express(js, |express| {
        express.query(MutexId(js.u32(args[2])), call(js, args[0], args[1]));
        Way::Runtime
    })
}

entry! {
    /// `remoteList(env, call, mutex)`: all locks of the mutex's server.
    list(3) |js, args| express(js, |express| {
        express.list(MutexId(js.u32(args[2])), call(js, args[0], args[1]));
        Way::Runtime
    })
}

entry! {
    /// `remoteClose(env, call, mutex)`.
    close(3) |js, args| express(js, |express| {
        express.close(MutexId(js.u32(args[2])), call(js, args[0], args[1]));
        Way::Runtime
    })
}

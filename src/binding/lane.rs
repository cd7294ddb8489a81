//! The express lane's connections: JavaScript owns the sockets and moves the bytes. See `runtime/express`.

use super::environment::{self, find};
use super::raw::{Function, entry};
use crate::runtime::express::{Express, Told};
use crate::runtime::{Call, MutexId};
use std::ptr;

pub const FUNCTIONS: &[Function] = &[
    ("laneOf", lane_of),
    ("laneAddress", address),
    ("laneConnected", connected),
    ("laneDeparting", departing),
    ("laneRead", read),
    ("laneClosed", closed),
];

/// What an answer means in `answers`, the numbers of `lib/port.js`.
const GRANTED: f64 = 0.0;
const BUSY: f64 = 1.0;
const DONE: f64 = 2.0;
/// Granted, with a token.
const FENCED: f64 = 16.0;
/// Added to the number of answers: something is to be written now.
const DEPARTING: f64 = 4096.0;

fn express() -> Option<&'static Express> {
    environment::running().map(|runtime| &*runtime.express)
}

entry! {
    /// `laneOf(mutex)`: the lane of the open mutex's server; 0 if it has none.
    lane_of(1) |js, args| {
        let lane = express().and_then(|express| express.lane(MutexId(js.u32(args[0]))));
        js.number(f64::from(lane.unwrap_or(0)))
    }
}

entry! {
    /// `laneAddress(lane)`: `{ host, port }`, or undefined if it is not known.
    address(1) |js, args| match express().and_then(|express| express.address(js.u32(args[0]))) {
        Some(address) => js.object(&[
            ("host", js.text(&address.ip().to_string())),
            ("port", js.int(i32::from(address.port()))),
        ]),
        None => ptr::null_mut(),
    }
}

entry! {
    /// `laneConnected(env, lane)`: `{ line, greeting }`, the connection's number and what to write first; undefined if the lane is gone.
    connected(2) |js, args| match express().and_then(|express| express.connected(js.u32(args[0]), js.u32(args[1]))) {
        Some((line, greeting)) => js.object(&[("line", js.number(f64::from(line))), ("greeting", js.latin1(&greeting))]),
        None => ptr::null_mut(),
    }
}

entry! {
    /// `laneDeparting(line)`: what has gathered for the next write, as latin1 text.
    departing(1) |js, args| {
        let bytes = express().map_or_else(Vec::new, |express| express.departing(js.u32(args[0])));
        js.latin1(&bytes)
    }
}

entry! {
    /// `laneRead(env, line, bytes, count, answers, tokens)`: how many answers were found in the first `count` bytes, at most as many
    /// as there are tokens; 4096 more if what `laneDeparting` gives is to be written now. If the connection is to be closed, it is that number
    /// less than -1. The answer `i` is for the call
    /// `answers[2 * i]`; what it means is in `answers[2 * i + 1]`, and its token in `tokens[i]` if it has one.
    read(6) |js, args| {
        let env = js.u32(args[0]);
        let (Some(express), Some(environment)) = (express(), find(env)) else { return js.int(-1) };
        // SAFETY: JavaScript passes a Uint8Array, a Float64Array and a BigUint64Array of its own, and cannot touch them before this
        // call returns.
        let (bytes, answers, tokens) = unsafe { (js.slice::<u8>(args[2]), js.slice::<f64>(args[4]), js.slice::<u64>(args[5])) };
        let bytes = bytes.get(..js.u32(args[3]) as usize).unwrap_or(&[]);
        let most = tokens.len().min(answers.len() / 2);
        let mut count = 0_usize;
        let outcome = express.read(js.u32(args[1]), bytes, most, &mut |call: Call, told| {
            answers[2 * count] = f64::from(call.cookie);
            answers[2 * count + 1] = match told {
                Told::Granted(token, lease) => {
                    // Under the lane's lock, so that the runtime can have told of no loss before.
                    environment.leases.lock().insert(call.cookie, lease);
                    tokens[count] = token.unwrap_or(0);
                    if token.is_some() { FENCED } else { GRANTED }
                }
                Told::Busy => BUSY,
                Told::Done => DONE,
            };
            count += 1;
        });
        match outcome {
            Ok(departing) => js.number(count as f64 + if departing { DEPARTING } else { 0.0 }),
            Err(_) => js.number(-1.0 - count as f64),
        }
    }
}

entry! {
    /// `laneClosed(line)`: the connection is closed.
    closed(1) |js, args| {
        if let Some(express) = express() {
            express.disconnected(js.u32(args[0]));
        }
        ptr::null_mut()
    }
}

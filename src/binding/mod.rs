//! The Node.js addon: the only module that knows Node-API.
//!
//! Functions are raw Node-API callbacks over plain numbers, because a lock's hot path costs a few nanoseconds and the usual
//! glue would cost a hundred. JavaScript numbers its calls itself; whatever is answered later comes back through
//! the environment's [`inbox`] under the same number. The JavaScript side of each function is in `lib/`.

#[cfg(unix)]
mod child;
mod cluster;
mod copies;
mod environment;
mod event;
mod inbox;
mod lane;
mod lending;
mod local;
#[cfg(unix)]
mod lock_file;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(not(target_os = "linux"))]
#[path = "machine_elsewhere.rs"]
mod machine;
mod parse;
mod questions;
mod raw;
mod remote;
mod thread;

use napi::bindgen_prelude::{Object, retain_current_module_for_unload_safety};
use napi::{Env, JsValue};
use napi_derive::napi;
use raw::Function;

/// Every function of the addon, by the name that JavaScript uses.
const FUNCTIONS: &[&[Function]] = &[
    parse::FUNCTIONS,
    thread::FUNCTIONS,
    copies::FUNCTIONS,
    local::FUNCTIONS,
    cluster::FUNCTIONS,
    lending::FUNCTIONS,
    machine::FUNCTIONS,
    remote::FUNCTIONS,
    lane::FUNCTIONS,
    #[cfg(unix)]
    lock_file::FUNCTIONS,
    #[cfg(unix)]
    child::FUNCTIONS,
];

/// Fills the addon's exports.
#[napi(module_exports)]
pub fn exports(exports: Object, env: Env) -> napi::Result<()> {
    retain_current_module_for_unload_safety();
    for (name, callback) in FUNCTIONS.iter().copied().flatten() {
        // SAFETY: both handles are of the running call's environment.
        unsafe { raw::define(env.raw(), exports.raw(), name, *callback)? };
    }
    Ok(())
}

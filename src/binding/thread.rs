//! The life of a JavaScript thread: how it gets to know the addon, and what happens when it ends.

use super::environment;
use super::inbox::Inbox;
use super::raw::{Function, entry};
use napi::sys;
use std::os::raw::c_void;
use std::ptr;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[
    ("isFirstThread", is_first_thread),
    ("attach", attach),
    ("detach", detach),
    ("keepAlive", keep_alive),
    ("shutdown", shutdown),
];

entry! {
    /// `isFirstThread()`: whether this is the thread that the operating system started the process with. False where it does not tell.
    is_first_thread(0) |js, _args| js.flag(first_thread())
}

#[cfg(target_os = "linux")]
fn first_thread() -> bool {
    // SAFETY: both calls only give numbers. The first one by number, because older C libraries have no function for it.
    unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) }
}

#[cfg(target_os = "macos")]
fn first_thread() -> bool {
    // SAFETY: only gives a number.
    unsafe { libc::pthread_main_np() == 1 }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn first_thread() -> bool {
    false
}

entry! {
    /// `attach(listener, thread, host)`: the number of this environment. `listener(kind, number, ...)` hears its events.
    attach(3) |js, args| {
        // SAFETY: the listener is an argument of the running call.
        let Ok(inbox) = (unsafe { Inbox::new(js, args[0]) }) else { return js.int(0) };
        let id = environment::begin(js.u32(args[1]), js.string(args[2]).unwrap_or_default(), inbox);
        // Registered after the inbox's thread-safe function and therefore run before that one ends.
        // SAFETY: the hook gets the number itself, not a pointer.
        unsafe { sys::napi_add_env_cleanup_hook(js.env, Some(ended), id as usize as *mut c_void) };
        js.number(f64::from(id))
    }
}

entry! {
    /// `detach(environment)`: as if the thread had ended; its listener may be forgotten. It may attach again, as another environment.
    detach(1) |js, args| {
        let id = js.u32(args[0]);
        if let Some(environment) = environment::find(id) {
            // SAFETY: on the environment's own thread; the same arguments as when it was added.
            unsafe { sys::napi_remove_env_cleanup_hook(js.env, Some(ended), id as usize as *mut c_void) };
            environment.inbox.release();
            environment::end(id);
        }
        ptr::null_mut()
    }
}

unsafe extern "C" fn ended(id: *mut c_void) {
    environment::end(id as usize as u32);
}

entry! {
    /// `keepAlive(environment, flag)`: whether calls are pending.
    keep_alive(2) |js, args| {
        if let Some(environment) = environment::find(js.u32(args[0])) {
            environment.inbox.keep_alive(js, js.bool(args[1]));
        }
        ptr::null_mut()
    }
}

entry! {
    /// `shutdown(milliseconds)`: gives back every remote lock of the process, waiting at most that long.
    shutdown(1) |js, args| {
        let limit = Duration::from_millis(u64::from(js.u32(args[0])));
        js.flag(environment::running().is_none_or(|runtime| runtime.shut_down(limit)))
    }
}

//! What a command that stops or dies of a signal makes this process do: the same.

use libc::{c_int, pid_t};
use std::{mem, ptr};

pub fn own_group() -> pid_t {
    // SAFETY: only gives a number.
    unsafe { libc::getpgrp() }
}

/// Stops this process, or all of its group, until it is continued. Where nobody could continue it, the system does not stop it.
pub fn stop(signal: c_int, whole_group: bool) {
    // SAFETY: pointers to locals, for which all zeros are valid.
    unsafe {
        let mut before = mem::zeroed::<libc::sigaction>();
        let mut plain = mem::zeroed::<libc::sigaction>();
        plain.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &plain, &mut before);
        send_here(signal, whole_group);
        libc::sigaction(signal, &before, ptr::null_mut());
    }
}

/// Lets a signal be ignored, or do what it does by default.
pub fn set_signal(signal: c_int, action: libc::sighandler_t) {
    // SAFETY: the action is one of the system's own.
    unsafe { libc::signal(signal, action) };
}

pub fn die(signal: c_int, whole_group: bool) {
    let no_core = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    set_signal(signal, libc::SIG_DFL);
    // SAFETY: pointers to locals.
    unsafe {
        // The command has left one already.
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        let mut set = mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
        send_here(signal, whole_group);
    }
}

/// Sends a signal to this process, or to all of its group. The calling thread is the process's first one, which takes the signal before
/// the call returns.
fn send_here(signal: c_int, whole_group: bool) {
    // SAFETY: numbers only.
    unsafe {
        if whole_group {
            libc::kill(0, signal);
        } else {
            libc::raise(signal);
        }
    }
}

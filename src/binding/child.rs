//! The command of `ipc-mutex exec` on Unix: it gets a process group of its own, and the terminal where there is one.
//!
//! A thread waits for the processes and writes what happens into a pipe that JavaScript reads, two bytes at a time: what, and the exit
//! code or the number of a signal. The pipe ends when no process is left that comes from the command. One command per process.

mod family;
mod own;
mod terminal;

use super::raw::{Function, Js, Value, entry};
use family::Family;
use libc::{c_int, pid_t};
use own::{die, own_group, set_signal, stop};
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use std::{mem, thread};
use terminal::Terminal;

pub const FUNCTIONS: &[Function] = &[
    ("commandStart", command_start),
    ("commandSignal", command_signal),
    ("commandStopped", command_stopped),
    ("commandContinue", command_continue),
    ("dieOfSignal", die_of_signal),
    ("isWritable", is_writable),
];

/// The first byte of what the pipe says.
const EXITED: u8 = 0;
const KILLED: u8 = 1;
const STOPPED: u8 = 2;
/// Killed by what the terminal sends to its foreground, while that was the command.
const INTERRUPTED: u8 = 3;
const CONTINUED: u8 = 4;

/// How often to look for the rest of the group where the system does not tell when it ends.
const PERIOD: Duration = Duration::from_millis(50);

struct Child {
    family: Family,
    terminal: Option<Terminal>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The command itself has ended, though not all that it has started.
    ended: bool,
    /// Nobody is left: the group's number may be somebody else's.
    over: bool,
    /// The command has the terminal whenever it would be ours.
    foreground: bool,
}

static CHILD: OnceLock<Child> = OnceLock::new();

entry! {
    /// `commandStart(words, token, handOver, ignored, descriptors)`: starts a command, its words separated by NUL. `handOver`: it gets
    /// the terminal at once if that is ours, else when it asks for it. `ignored` is a set of signals as bits. `descriptors` are an
    /// Int32Array. Returns the descriptor of the pipe, or a negative error number.
    command_start(5) |js, args| {
        // SAFETY: JavaScript passes an Int32Array, and nobody else uses it meanwhile.
        let descriptors = unsafe { js.slice::<i32>(args[4]) }.to_vec();
        let words = js.string(args[0]).unwrap_or_default();
        let token = js.string(args[1]).unwrap_or_default();
        match start(&words, &token, js.bool(args[2]), js.u32(args[3]), descriptors) {
            Ok(pipe) => js.int(pipe),
            Err(error) => js.int(-error.raw_os_error().unwrap_or(libc::EINVAL)),
        }
    }
}

entry! {
    /// `commandSignal(number, everybody)`: sends a signal to the command's group and, if everybody is meant or the command itself has ended,
    /// to all that has left the group.
    command_signal(2) |js, args| done(js, |child| child.send(signal_of(js, args[0]), js.bool(args[1])))
}

entry! {
    /// `commandStopped(number, forwarded)`: the command was stopped by that signal, which had been forwarded or not. Where that was meant
    /// for the whole job, this process stops as well, and the call returns when it is continued. Returns whether the command is to be continued.
    command_stopped(2) |js, args| {
        js.flag(CHILD.get().is_some_and(|child| child.stopped(signal_of(js, args[0]), js.bool(args[1]))))
    }
}

entry! {
    /// `commandContinue()`: lets a stopped command go on, with the terminal if it is to have it.
    command_continue(0) |js, _args| done(js, Child::proceed)
}

entry! {
    /// `dieOfSignal(number, wholeGroup)`: ends this process, or all of its group, as if it had never listened to that signal. Returns if
    /// that is not possible.
    die_of_signal(2) |js, args| {
        die(signal_of(js, args[0]), js.bool(args[1]));
        js.undefined()
    }
}

entry! {
    /// `isWritable(descriptor)`: whether a write of a few lines would return at once. What is no descriptor is said to be writable, too.
    is_writable(1) |js, args| {
        let mut request = libc::pollfd {
            fd: c_int::try_from(js.u32(args[0])).unwrap_or(-1),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: a pointer to a local, and the number of its elements.
        js.flag(unsafe { libc::poll(&mut request, 1, 0) } != 0)
    }
}

fn done(js: Js, work: impl FnOnce(&Child)) -> Value {
    if let Some(child) = CHILD.get() {
        work(child);
    }
    js.undefined()
}

/// 0, which does nothing, for what is no signal.
fn signal_of(js: Js, value: Value) -> c_int {
    c_int::try_from(js.u32(value)).unwrap_or(0)
}

fn start(words: &str, token: &str, hand_over: bool, ignored: u32, descriptors: Vec<RawFd>) -> io::Result<RawFd> {
    let mut words = words.split('\0');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env(family::MARK, token).process_group(0);
    let (listening, telling) = pipe()?;
    let terminal = Terminal::open();
    let foreground = hand_over && terminal.as_ref().is_some_and(Terminal::is_ours);
    let given = terminal.as_ref().filter(|_| foreground).map(AsRawFd::as_raw_fd);
    set_signal(libc::SIGTTOU, libc::SIG_IGN);
    let alone = has_no_children();
    // SAFETY: only gives a number.
    let own = unsafe { libc::getpid() };
    become_reaper();
    // SAFETY: what runs between fork and exec are system calls, and memory that was there before.
    unsafe {
        command.pre_exec(move || {
            if let Some(terminal) = given {
                libc::tcsetpgrp(terminal, libc::getpid());
            }
            // The one is ignored here, for the sake of the line above, the other by Node.js.
            for signal in [libc::SIGTTOU, libc::SIGXFSZ] {
                set_signal(signal, libc::SIG_DFL);
            }
            end_with_parent(own)?;
            for signal in (1..32).filter(|signal| ignored & (1 << signal) != 0) {
                set_signal(signal, libc::SIG_IGN);
            }
            // Node.js keeps even the standard streams for itself.
            for descriptor in (0..=2).chain(descriptors.iter().copied()) {
                libc::fcntl(descriptor, libc::F_SETFD, 0);
            }
            Ok(())
        });
    }
    let process = command.spawn().inspect_err(|_| {
        if let Some(terminal) = &terminal {
            terminal.give_to(own_group(), None);
        }
    })?;
    let child = Child {
        family: Family::new(process.id().cast_signed(), token, alone),
        terminal,
        state: Mutex::new(State {
            foreground,
            ..State::default()
        }),
    };
    let child = CHILD.get_or_init(|| child);
    thread::Builder::new()
        .name("ipc-mutex child".into())
        .spawn(move || child.watch(telling))
        .inspect_err(|_| child.send(libc::SIGKILL, false))?;
    Ok(listening.into_raw_fd())
}

impl Child {
    /// Waits for one process after the other until nobody is left.
    fn watch(&self, mut pipe: File) {
        loop {
            let found = next_change();
            let mut state = self.state.lock();
            let said = match found {
                // Only now it is gone, under the lock: no signal goes to a number that is somebody else's.
                Some(pid) => self.take(pid, &mut state),
                None if state.ended => None,
                // Somebody else has waited for it.
                None => return,
            };
            state.over = state.ended && !self.family.is_left();
            let over = state.over;
            drop(state);
            if let Some(said) = said {
                // JavaScript may have stopped to listen.
                let _ = pipe.write_all(&said);
            }
            if over {
                return;
            }
            if found.is_none() {
                thread::sleep(PERIOD);
            }
        }
    }

    /// What there is to say about a process that has changed.
    fn take(&self, pid: pid_t, state: &mut State) -> Option<[u8; 2]> {
        let mut status = 0;
        // SAFETY: a number and a pointer to a local.
        let taken = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED) };
        if taken != pid || pid != self.family.group {
            return None;
        }
        let (what, number) = if libc::WIFSTOPPED(status) {
            (STOPPED, libc::WSTOPSIG(status))
        } else if libc::WIFCONTINUED(status) {
            (CONTINUED, libc::SIGCONT)
        } else if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            let keyboard = matches!(signal, libc::SIGINT | libc::SIGQUIT) && self.has_terminal();
            (if keyboard { INTERRUPTED } else { KILLED }, signal)
        } else {
            (EXITED, libc::WEXITSTATUS(status))
        };
        if !matches!(what, STOPPED | CONTINUED) {
            state.ended = true;
            // What is left of the group is in the background, and Ctrl-C is ours to forward.
            state.foreground = false;
            self.take_terminal();
        }
        Some([what, u8::try_from(number).unwrap_or(u8::MAX)])
    }

    fn send(&self, signal: c_int, everybody: bool) {
        let state = self.state.lock();
        if !state.over {
            self.family.send(signal, everybody || state.ended);
        }
    }

    fn has_terminal(&self) -> bool {
        self.terminal
            .as_ref()
            .is_some_and(|terminal| terminal.group() == self.family.group)
    }

    fn take_terminal(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.give_to(own_group(), Some(self.family.group));
        }
    }

    fn stopped(&self, signal: c_int, forwarded: bool) -> bool {
        match (signal, &self.terminal) {
            // It asks for the terminal.
            (libc::SIGTTIN | libc::SIGTTOU, Some(terminal)) => {
                self.state.lock().foreground = true;
                if !terminal.is_ours() && !self.has_terminal() {
                    stop(signal, false);
                }
                true
            }
            (libc::SIGTSTP, _) if forwarded || self.has_terminal() => {
                let keyboard = self.has_terminal();
                self.take_terminal();
                stop(signal, keyboard);
                true
            }
            // Whoever has stopped it lets it go on; this process has a lock to keep meanwhile, and hears the keyboard in its place.
            _ => {
                self.take_terminal();
                false
            }
        }
    }

    fn proceed(&self) {
        let state = self.state.lock();
        if let (true, Some(terminal)) = (state.foreground, &self.terminal) {
            terminal.give_to(self.family.group, Some(own_group()));
        }
        drop(state);
        self.send(libc::SIGCONT, false);
    }
}

/// The next process that has ended, was stopped or was continued, which stays as it is; `None` if this process has no children.
fn next_change() -> Option<pid_t> {
    loop {
        // SAFETY: plain data, for which all zeros are valid; and a pointer to it.
        let (result, about) = unsafe {
            let mut about = mem::zeroed::<libc::siginfo_t>();
            let what = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOWAIT;
            (libc::waitid(libc::P_ALL, 0, &mut about, what), about)
        };
        if result == 0 {
            // SAFETY: filled in for a child.
            return Some(unsafe { about.si_pid() });
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, File)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), OwnedFd::from(writer).into()))
}

/// Whether all children of this process will come from the command. The program that became this one may have had others.
fn has_no_children() -> bool {
    // SAFETY: plain data, for which all zeros are valid; and a pointer to it.
    let result = unsafe {
        let mut about = mem::zeroed::<libc::siginfo_t>();
        libc::waitid(
            libc::P_ALL,
            0,
            &mut about,
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    result == -1 && std::process::id() != 1
}

/// Orphans among the command's descendants become children of this process.
fn become_reaper() {
    #[cfg(target_os = "linux")]
    // SAFETY: numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    }
}

/// Without its parent, which may be killed by force, a command has no lock.
fn end_with_parent(parent: pid_t) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        // Killed before that, it would not be missed.
        if libc::getppid() != parent {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    Ok(())
}

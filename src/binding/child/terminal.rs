//! The terminal that controls this process.

use libc::pid_t;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

pub struct Terminal(File);

impl Terminal {
    /// `None` for a process without one.
    pub fn open() -> Option<Self> {
        File::options().read(true).write(true).open("/dev/tty").ok().map(Self)
    }

    /// The process group that gets what the keyboard sends, and may read.
    pub fn group(&self) -> pid_t {
        // SAFETY: a call on an open file.
        unsafe { libc::tcgetpgrp(self.as_raw_fd()) }
    }

    pub fn is_ours(&self) -> bool {
        self.group() == super::own::own_group()
    }

    /// Puts a group into the foreground, if the one that is there is `from`.
    pub fn give_to(&self, group: pid_t, from: Option<pid_t>) {
        if from.is_none_or(|from| self.group() == from) {
            // SAFETY: a call on an open file. SIGTTOU, which it causes from the background, is ignored.
            unsafe { libc::tcsetpgrp(self.as_raw_fd(), group) };
        }
    }
}

impl AsRawFd for Terminal {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

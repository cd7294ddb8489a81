//! All processes that come from a command: its group, and those that have left it for a group or session of their own, as `timeout` or
//! a shell with job control does. The latter are known by their parent. Orphans become children of this process, which may have others:
//! those of a container whose first process it is, or of the program that became this one. Then orphans are known by a mark in
//! their environment.

use libc::{c_int, pid_t};

/// The variable with the fencing token.
pub const MARK: &str = "IPC_MUTEX_TOKEN";

pub struct Family {
    /// The number of the command, and of its group.
    pub group: pid_t,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    mark: String,
    /// Whether this process has no other children.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    alone: bool,
}

impl Family {
    pub fn new(group: pid_t, token: &str, alone: bool) -> Self {
        let mark = format!("{MARK}={token}");
        Self { group, mark, alone }
    }

    /// Whether a process is left. One that has ended counts until its parent has noticed.
    pub fn is_left(&self) -> bool {
        self.members()
            .map_or_else(|| send(-self.group, 0), |members| !members.is_empty())
    }

    /// Sends a signal to the group, once to each in it, and if wanted to those who have left it.
    pub fn send(&self, signal: c_int, everybody: bool) {
        send(-self.group, signal);
        if everybody {
            for member in self
                .members()
                .into_iter()
                .flatten()
                .filter(|member| member.group != self.group)
            {
                send(member.pid, signal);
            }
        }
    }

    /// `None` where the system does not tell.
    #[cfg(target_os = "linux")]
    fn members(&self) -> Option<Vec<Process>> {
        let own = std::process::id().cast_signed();
        let mut others: Vec<Process> = std::fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter_map(|entry| Process::read(&entry))
            .collect();
        // Not to be seen is something else than not to be there.
        others.iter().find(|process| process.pid == own)?;
        let mut members: Vec<Process> = Vec::new();
        loop {
            let (more, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|process| {
                process.group == self.group
                    || members.iter().any(|member| member.pid == process.parent)
                    || (process.parent == own && members.is_empty() && (self.alone || process.is_marked(&self.mark)))
            });
            if more.is_empty() {
                return Some(members);
            }
            members.extend(more);
            others = rest;
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn members(&self) -> Option<Vec<Process>> {
        None
    }
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
struct Process {
    pid: pid_t,
    parent: pid_t,
    group: pid_t,
}

#[cfg(target_os = "linux")]
impl Process {
    /// `None` for what is no process, or no more.
    fn read(entry: &std::fs::DirEntry) -> Option<Self> {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("stat")).ok()?;
        // The second field is the name in parentheses, and may contain anything.
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(&line[end + 1..])
            .ok()?
            .split_ascii_whitespace()
            .skip(1);
        let mut number = || fields.next()?.parse().ok();
        Some(Self {
            pid,
            parent: number()?,
            group: number()?,
        })
    }

    fn is_marked(&self, mark: &str) -> bool {
        std::fs::read(format!("/proc/{}/environ", self.pid)).is_ok_and(|variables| {
            variables
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        })
    }
}

/// Whether there was somebody to send it to.
fn send(pid: pid_t, signal: c_int) -> bool {
    // SAFETY: numbers only.
    unsafe { libc::kill(pid, signal) == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) }
}

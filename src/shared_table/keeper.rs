//! The thread that hears of grants and deaths for a process, so that a blocked event loop delays nobody else.

use super::member::Member;
use super::system;
use super::table::Process;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How often those who wait look whether anybody before them has died unheard.
const CHECK: Duration = Duration::from_secs(2);
/// The same, while somebody before them cannot be watched.
const CLOSE_CHECK: Duration = Duration::from_millis(100);
/// How many processes are watched at once.
const WATCHED: usize = 64;

/// The number of this process's pid namespace: pids of others mean nothing here.
pub fn pid_space() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |status| status.ino())
}

pub fn start(member: Arc<Member>, bell: File) -> io::Result<()> {
    Builder::new()
        .name("ipc-mutex local".into())
        .stack_size(256 * 1024)
        .spawn(move || keep(&member, &bell))?;
    Ok(())
}

fn keep(member: &Member, bell: &File) {
    let paths: [PathBuf; 2] = member.paths();
    let folder = system::watch_files(&[&paths[0], &paths[1]]).ok();
    let mut watched: HashMap<Process, File> = HashMap::new();
    let mut is_unwatched = false;
    // The folder may have gone before it was watched.
    let mut due = Some(Instant::now());
    loop {
        let mut files = vec![bell.as_raw_fd(), folder.as_ref().map_or(-1, AsRawFd::as_raw_fd)];
        let order: Vec<Process> = watched.keys().copied().collect();
        files.extend(watched.values().map(AsRawFd::as_raw_fd));
        let left = due.map(|due| due.saturating_duration_since(Instant::now()).as_millis() as i32 + 1);
        let ready = system::poll(&files, left.unwrap_or(-1));
        system::drain(bell);
        if let Some(folder) = &folder {
            system::drain(folder);
        }
        let ended: Vec<Process> = order
            .into_iter()
            .zip(&ready[2..])
            .filter(|(_, ended)| **ended)
            .map(|(process, _)| process)
            .collect();
        watched.retain(|process, _| !ended.contains(process));
        // However often it rings in between.
        let sweep = !ended.is_empty() || due.is_some_and(|due| Instant::now() >= due);
        let Some(attended) = member.attend(sweep) else { return };
        let mut is_new = false;
        let before = attended.before;
        if attended.is_complete {
            watched.retain(|process, _| before.contains(process));
            is_unwatched = false;
        }
        for process in before.iter().filter(|process| !ended.contains(process)) {
            if watched.contains_key(process) || watched.len() >= WATCHED {
                continue;
            }
            match (process.space == member.space()).then(|| system::watch_process(process.pid)) {
                Some(Ok(watch)) => {
                    watched.insert(*process, watch);
                    is_new = true;
                }
                // It may have ended, or is of another namespace.
                _ => is_unwatched = true,
            }
        }
        // A child that it left behind may have kept the lock of its life.
        is_unwatched |= before.iter().any(|process| ended.contains(process));
        let pause = match attended.is_waiting {
            false if folder.is_some() => None,
            // A process that ended before it was watched, and whose pid may be another's by now, is found by one more sweep.
            true if is_new => Some(Duration::ZERO),
            true if is_unwatched => Some(CLOSE_CHECK),
            _ => Some(CHECK),
        };
        let next = pause.map(|pause| Instant::now() + pause);
        due = match due {
            Some(due) if !sweep => next.map(|next| next.min(due)),
            _ => next,
        };
    }
}

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

/// How often those who wait look whether anybody before them has died unheard (milliseconds).
const CHECK: i32 = 2_000;
/// The same, while somebody before them cannot be watched.
const CLOSE_CHECK: i32 = 100;
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
    let mut timeout = 0;
    loop {
        let mut files = vec![bell.as_raw_fd(), folder.as_ref().map_or(-1, AsRawFd::as_raw_fd)];
        let order: Vec<Process> = watched.keys().copied().collect();
        files.extend(watched.values().map(AsRawFd::as_raw_fd));
        let ready = system::poll(&files, timeout);
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
        let is_time = !ready.contains(&true);
        let Some(attended) = member.attend(is_time || !ended.is_empty()) else {
            return;
        };
        let mut is_new = false;
        if let Some(before) = attended.before {
            watched.retain(|process, _| before.contains(process));
            is_unwatched = false;
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
        }
        timeout = match attended.is_waiting {
            false if folder.is_some() => -1,
            // A process that ended before it was watched, and whose pid may be another's by now, is found by one more sweep.
            true if is_new => 0,
            true if is_unwatched => CLOSE_CHECK,
            _ => CHECK,
        };
    }
}

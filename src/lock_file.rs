//! Lock folders in the manner of proper-lockfile, kept fresh: whoever made the folder `<file>.lock` holds the lock, and shows by the folder's
//! modification time that it lives. A thread for each folder does so here: neither a busy event loop nor another, hanging file system delays it.

use crate::error::{Error, Kind};
use parking_lot::{Condvar, Mutex};
use std::fs::{File, FileTimes, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How soon a failed update is tried again.
const AGAIN: Duration = Duration::from_secs(1);
const STACK: usize = 128 << 10;

/// A folder that is kept fresh until this is dropped. While it is open, no other folder can get its number.
pub struct LockFile {
    kept: Arc<Kept>,
}

struct Kept {
    path: PathBuf,
    folder: File,
    is_over: Mutex<bool>,
    over: Condvar,
}

/// How often to set the time, and after which time without success others take the folder for abandoned.
#[derive(Clone, Copy)]
pub struct Pace {
    pub update: Duration,
    pub stale: Duration,
}

impl LockFile {
    /// Keeps a folder fresh that this process has just made.
    ///
    /// # Errors
    /// If the folder cannot be opened or no thread started. `compromised` is called once, from that thread, if the folder stops being this one or
    /// could not be updated for as long as others wait.
    pub fn keep(path: &Path, pace: Pace, compromised: impl FnOnce(Error) + Send + 'static) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let kept = Arc::new(Kept {
            path: path.to_owned(),
            folder,
            is_over: Mutex::new(false),
            over: Condvar::new(),
        });
        let last = kept.folder.metadata()?;
        let worker = Arc::clone(&kept);
        thread::Builder::new()
            .name("ipc-mutex file".into())
            .stack_size(STACK)
            .spawn(move || worker.run(last, pace, compromised))?;
        Ok(Self { kept })
    }

    /// Removes the folder, if the path still leads to this one.
    pub fn remove(&self) {
        if let (Ok(mine), Ok(found)) = (self.kept.folder.metadata(), self.kept.path.symlink_metadata())
            && is_same(&mine, &found)
        {
            let _ = std::fs::remove_dir(&self.kept.path);
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        *self.kept.is_over.lock() = true;
        self.kept.over.notify_all();
    }
}

impl Kept {
    fn run(&self, mut last: Metadata, pace: Pace, compromised: impl FnOnce(Error)) {
        let mut updated = Instant::now();
        let mut pause = pace.update;
        loop {
            if self.is_over_after(pause) {
                return;
            }
            pause = match self.update(&mut last) {
                Ok(()) => {
                    updated = Instant::now();
                    pace.update
                }
                Err(Failed::Passing(_)) if updated.elapsed() <= pace.stale => AGAIN,
                Err(Failed::Passing(error) | Failed::Gone(error)) => {
                    // Who releases the lock removes the folder: that is no news.
                    if !*self.is_over.lock() {
                        compromised(error);
                    }
                    return;
                }
            };
        }
    }

    fn is_over_after(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut is_over = self.is_over.lock();
        while !*is_over && !self.over.wait_until(&mut is_over, until).timed_out() {}
        *is_over
    }

    /// Sets the time, if the folder is this one and nobody else has set its time.
    fn update(&self, last: &mut Metadata) -> Result<(), Failed> {
        let found = self.path.symlink_metadata().map_err(|error| {
            let is_gone = error.kind() == io::ErrorKind::NotFound;
            // As Node.js says it.
            let code = if is_gone { "ENOENT: " } else { "" };
            let error = failure(&format!("{code}{error}, stat '{}'", self.path.display()));
            if is_gone {
                Failed::Gone(error)
            } else {
                Failed::Passing(error)
            }
        })?;
        if !is_same(&found, last) || time(&found) != time(last) {
            return Err(Failed::Gone(failure(
                "Unable to update lock within the stale threshold",
            )));
        }
        let now = SystemTime::now();
        self.folder
            .set_times(FileTimes::new().set_accessed(now).set_modified(now))
            .and_then(|()| self.folder.metadata())
            .map(|set| *last = set)
            .map_err(|error| Failed::Passing(failure(&format!("{}: {error}", self.path.display()))))
    }
}

enum Failed {
    /// May be better the next time.
    Passing(Error),
    Gone(Error),
}

fn failure(message: &str) -> Error {
    Error::new(Kind::LockLost, message)
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn time(of: &Metadata) -> (i64, i64) {
    (of.mtime(), of.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver};

    struct World {
        parent: PathBuf,
        path: PathBuf,
        file: Option<LockFile>,
        news: Receiver<Error>,
    }

    fn world(name: &str, update: u64) -> World {
        let parent = std::env::temp_dir().join(format!("ipc-mutex-lock-file-{name}-{}", std::process::id()));
        let path = parent.join("a.lock");
        std::fs::create_dir_all(&path).unwrap();
        let (sender, news) = mpsc::channel();
        let pace = Pace {
            update: Duration::from_millis(update),
            stale: Duration::from_secs(3600),
        };
        let file = LockFile::keep(&path, pace, move |error| sender.send(error).unwrap()).unwrap();
        World {
            parent,
            path,
            file: Some(file),
            news,
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.file = None;
            let _ = std::fs::remove_dir_all(&self.parent);
        }
    }

    #[test]
    fn the_time_goes_on_by_itself() {
        let world = world("fresh", 5);
        let first = world.path.metadata().unwrap();
        while time(&world.path.metadata().unwrap()) <= time(&first) {
            thread::yield_now();
        }
        assert!(world.news.try_recv().is_err());
    }

    #[test]
    fn a_folder_that_is_gone_or_not_ours_is_told_once() {
        let world = world("gone", 5);
        std::fs::remove_dir(&world.path).unwrap();
        assert!(world.news.recv().unwrap().message.contains("ENOENT"));
        assert!(world.news.recv().is_err());

        let world = self::world("other", 5);
        // The new folder is there at once: only the open one's number tells them apart.
        std::fs::create_dir(world.parent.join("b.lock")).unwrap();
        std::fs::rename(world.parent.join("b.lock"), &world.path).unwrap();
        assert!(world.news.recv().unwrap().message.contains("stale threshold"));
        world.file.as_ref().unwrap().remove();
        assert!(world.path.exists(), "somebody else's folder was removed");
    }

    #[test]
    fn a_time_that_somebody_else_set_is_told() {
        let world = world("time", 5);
        let other = File::open(&world.path).unwrap();
        other
            .set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH))
            .unwrap();
        assert!(world.news.recv().unwrap().message.contains("stale threshold"));
    }

    #[test]
    fn a_released_folder_is_no_news() {
        let mut world = world("released", 1);
        let file = world.file.take().unwrap();
        file.remove();
        assert!(!world.path.exists());
        drop(file);
        // The thread ends and drops its end of the channel. It may have seen the removal first, between the two lines above.
        assert!(world.news.recv().map_or(true, |error| error.message.contains("ENOENT")));
    }
}

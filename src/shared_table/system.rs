//! What Linux gives: locks of files, shared memory, FIFOs, and word of a process's end. The only unsafe code of the lock table.

use super::layout::{BYTES, WORDS};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Error, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::AtomicU32;

pub type Lock = libc::c_int;
pub const WRITE: Lock = libc::F_WRLCK as Lock;
pub const READ: Lock = libc::F_RDLCK as Lock;
pub const NONE: Lock = libc::F_UNLCK as Lock;

fn region(kind: Lock, start: u64, length: u64) -> libc::flock {
    // SAFETY: zeros are a value of this type, which has members on some systems that are of no interest.
    let mut region: libc::flock = unsafe { mem::zeroed() };
    region.l_type = kind as _;
    region.l_whence = libc::SEEK_SET as _;
    region.l_start = start as _;
    region.l_len = length as _;
    region
}

fn checked(status: libc::c_int) -> io::Result<libc::c_int> {
    if status < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(status)
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn control(file: &File, command: libc::c_int, region: &mut libc::flock) -> io::Result<()> {
    // SAFETY: an open file and a local of the right type.
    again(|| checked(unsafe { libc::fcntl(file.as_raw_fd(), command, region as *mut libc::flock) })).map(drop)
}

/// Waits until this open file has the lock on a byte.
pub fn lock(file: &File, kind: Lock, byte: u64) -> io::Result<()> {
    control(file, libc::F_OFD_SETLKW, &mut region(kind, byte, 1))
}

/// The same without waiting. `false` if another open file has it.
pub fn try_lock(file: &File, kind: Lock, byte: u64) -> io::Result<bool> {
    match control(file, libc::F_OFD_SETLK, &mut region(kind, byte, 1)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether another open file has a lock there that excludes one of this kind.
pub fn is_locked(file: &File, kind: Lock, start: u64, length: u64) -> io::Result<bool> {
    let mut region = region(kind, start, length);
    control(file, libc::F_OFD_GETLK, &mut region)?;
    Ok(Lock::from(region.l_type) != NONE)
}

/// Maps the table. The memory is never given back, so nobody can be left with a pointer to nothing.
pub fn map(file: &File) -> io::Result<&'static [AtomicU32]> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of the whole table, which the file is as long as; zeros are valid, and all sides use atomic operations.
    unsafe {
        let start = libc::mmap(ptr::null_mut(), BYTES, access, libc::MAP_SHARED, file.as_raw_fd(), 0);
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(std::slice::from_raw_parts(start.cast::<AtomicU32>(), WORDS))
    }
}

/// Gives a part of a file room on the disk.
pub fn reserve(file: &File, start: usize, length: usize) -> io::Result<()> {
    // SAFETY: only takes numbers.
    let reserved = again(|| checked(unsafe { libc::fallocate(file.as_raw_fd(), 0, start as _, length as _) }));
    match reserved {
        // Where the file system cannot do this by itself: what is there is written once more. Nobody else does so now.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, start as u64)?;
            file.write_all_at(&bytes, start as u64)
        }
        reserved => reserved.map(drop),
    }
}

/// The kind of file system a file is on, as statfs(2) numbers it.
pub fn file_system(file: &File) -> io::Result<u32> {
    // SAFETY: zeros are a value of this type, and the pointer is to a local.
    unsafe {
        let mut status: libc::statfs = mem::zeroed();
        again(|| checked(libc::fstatfs(file.as_raw_fd(), &mut status)))?;
        Ok(status.f_type as u32)
    }
}

pub fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: text that ends with NUL.
    checked(unsafe { libc::mkfifo(path.as_ptr(), mode as libc::mode_t) }).map(drop)
}

pub fn effective_user() -> u32 {
    // SAFETY: only gives a number.
    unsafe { libc::geteuid() }
}

/// The home folder of a user as the system's list of users has it.
pub fn home_of(user: u32) -> Option<PathBuf> {
    let mut buffer = vec![0; 16 * 1024];
    // SAFETY: zeros are a value of this type; the buffer is as long as the call is told, and outlives the text in it.
    unsafe {
        let mut entry: libc::passwd = mem::zeroed();
        let mut found = ptr::null_mut();
        let status = libc::getpwuid_r(user, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found);
        if status != 0 || found.is_null() || entry.pw_dir.is_null() {
            return None;
        }
        let home = std::ffi::CStr::from_ptr(entry.pw_dir).to_bytes();
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(home))).filter(|home| home.is_absolute())
    }
}

/// A descriptor that becomes readable when a process has ended.
pub fn watch_process(pid: u32) -> io::Result<File> {
    // SAFETY: only takes numbers, and gives a new descriptor.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) as libc::c_int;
        Ok(File::from_raw_fd(checked(descriptor)?))
    }
}

/// A descriptor that becomes readable when one of these files is deleted or moved.
pub fn watch_files(paths: &[&Path]) -> io::Result<File> {
    // SAFETY: a new descriptor, and texts that end with NUL.
    unsafe {
        let watch = File::from_raw_fd(checked(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC))?);
        for path in paths {
            let path = CString::new(path.as_os_str().as_bytes())?;
            let what = libc::IN_ATTRIB | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF;
            checked(libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr(), what))?;
        }
        Ok(watch)
    }
}

/// Waits until one of these is readable, or so many milliseconds; -1 is for ever. Says which ones are.
pub fn poll(files: &[RawFd], timeout: i32) -> Vec<bool> {
    let mut entries: Vec<libc::pollfd> = files
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: as many entries as the call is told. What it fails with says only that nothing is known, as a timeout does.
    let status = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) };
    entries.iter().map(|entry| status > 0 && entry.revents != 0).collect()
}

/// Empties a descriptor that does not block.
pub fn drain(mut file: &File) {
    let mut bytes = [0; 4096];
    while matches!(file.read(&mut bytes), Ok(length) if length > 0) {}
}

/// Rings at a FIFO. If it is full, it rings already.
pub fn ring(mut fifo: &File) {
    let _ = fifo.write(&[1]);
}

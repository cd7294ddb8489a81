//! The memory with the words of `mpm:`, as a cluster's primary lends it to its workers; see [`crate::local::lent`].
//!
//! It is a file without a name, sealed: nobody can change its length, which would end the processes that have mapped it. A worker opens it
//! through the primary's `/proc`, by the numbers that the primary tells it over the cluster's channel, if it is such a file, and makes
//! sure by a random number in it that it has got the right one. Where any of that does not work, and on
//! systems other than Linux, there is no such memory, and everything goes by messages.
//!
//! | 32-bit words | |
//! |---|---|
//! | 0, 1 | the random number |
//! | from [`FIRST_SIGN`] | the signs of the owners |
//! | from [`FIRST_PLACE`] | the places of the locks |

use super::raw::{Function, Value, entry};
use crate::core::ids::OwnerId;
use parking_lot::Mutex;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU32;

pub const FUNCTIONS: &[Function] = &[("clusterBorrow", borrow)];

const FIRST_SIGN: usize = 16;
const FIRST_PLACE: usize = 1024;
/// All locks whose words are lent at the same time; those opened beyond go by messages.
const PLACES: usize = 8192;
const WORDS: usize = FIRST_PLACE + PLACES * crate::local::lent::Lent::PLACE;
const BYTES: usize = WORDS * size_of::<AtomicU32>();

/// What this process lends.
pub struct Lending {
    words: &'static [AtomicU32],
    file: u32,
    secret: [u32; 2],
    /// Which signs have an owner.
    signs: Mutex<Vec<Option<OwnerId>>>,
}

/// Where a borrower finds the memory and, in it, its sign: process, file, both halves of the random number, place of the sign.
pub type Address = [u32; 5];

/// Made when the table is; `None` where there is no such memory.
pub static LENDING: LazyLock<Option<Lending>> = LazyLock::new(Lending::new);

impl Lending {
    fn new() -> Option<Self> {
        // For tests of what happens where there is no such memory.
        if std::env::var_os("IPC_MUTEX_LENDING").is_some_and(|value| value == "off") {
            return None;
        }
        let (file, words) = system::make()?;
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).ok()?;
        let number = u64::from_ne_bytes(bytes);
        let secret = [number as u32, (number >> 32) as u32];
        for (word, half) in words.iter().zip(secret) {
            word.store(half, std::sync::atomic::Ordering::SeqCst);
        }
        Some(Self {
            words,
            file,
            secret,
            signs: Mutex::new(vec![None; FIRST_PLACE - FIRST_SIGN]),
        })
    }

    /// The places of the locks.
    pub fn places(&self) -> &'static [AtomicU32] {
        &self.words[FIRST_PLACE..]
    }

    /// Which word of the memory is that of a lock, by the number of its place.
    pub fn word(place: u32) -> u32 {
        // Both are far below 2^32.
        (FIRST_PLACE + place as usize * crate::local::lent::Lent::PLACE) as u32
    }

    /// Gives an owner its sign. `None` if there is none left: then that owner cannot borrow.
    pub fn sign(&self, owner: OwnerId) -> Option<Address> {
        let mut signs = self.signs.lock();
        let free = signs.iter().position(Option::is_none)?;
        signs[free] = Some(owner);
        let at = FIRST_SIGN + free;
        self.words[at].store(owner.0, std::sync::atomic::Ordering::SeqCst);
        Some([std::process::id(), self.file, self.secret[0], self.secret[1], at as u32])
    }

    /// Takes the sign of an owner away, before the table ends the owner.
    pub fn withdraw(&self, owner: OwnerId) {
        let mut signs = self.signs.lock();
        if let Some(at) = signs.iter().position(|of| *of == Some(owner)) {
            self.words[FIRST_SIGN + at].store(0, std::sync::atomic::Ordering::SeqCst);
            signs[at] = None;
        }
    }
}

entry! {
    /// `clusterBorrow(process, file, secret, secret)`: an ArrayBuffer over the memory that another process, or this one, lends; undefined
    /// if it cannot be had.
    borrow(4) |js, args| system::borrow(js, args.map(|value| js.u32(value)))
}

#[cfg(target_os = "linux")]
mod system {
    use super::{AtomicU32, BYTES, Value, WORDS, ptr};
    use crate::binding::raw::Js;
    use napi::sys;
    use std::ffi::CString;
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
    use std::os::raw::{c_int, c_void};
    use std::os::unix::fs::OpenOptionsExt;
    use std::slice;
    use std::sync::atomic::Ordering;

    /// The length stays as it is, and so do the seals.
    const SEALS: c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

    /// A new file without a name, open and mapped for as long as the process lives, all 0.
    pub fn make() -> Option<(u32, &'static [AtomicU32])> {
        let name = CString::new("ipc-mutex").ok()?;
        // SAFETY: the name ends with NUL. By number, because older C libraries have no function for it.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_memfd_create,
                name.as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            )
        };
        let descriptor = i32::try_from(descriptor).ok().filter(|number| *number >= 0)?;
        // SAFETY: just opened, and nobody else's.
        let file = unsafe { File::from_raw_fd(descriptor) };
        file.set_len(BYTES as u64).ok()?;
        // SAFETY: a call on an open file, with a number.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } == -1 {
            return None;
        }
        let words = map(&file)?.cast::<AtomicU32>();
        // SAFETY: mapped with this length, page by page 0, and never unmapped. All sides use atomic operations only.
        let words = unsafe { slice::from_raw_parts(words, WORDS) };
        // Stays open, for the workers to come.
        Some((file.into_raw_fd().cast_unsigned(), words))
    }

    fn map(file: &File) -> Option<*mut c_void> {
        // SAFETY: a new mapping, at an address of the system's choice.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        (memory != libc::MAP_FAILED).then_some(memory)
    }

    fn unmap(memory: *mut c_void) {
        // SAFETY: the caller's mapping, which nobody uses any more.
        unsafe { libc::munmap(memory, BYTES) };
    }

    /// The file of that number in a process, if it is like one of [`make`].
    fn open(process: u32, file: u32) -> Option<File> {
        let fits = |file: &File| {
            file.metadata()
                .is_ok_and(|about| about.is_file() && about.len() == BYTES as u64)
        };
        // Only seen, not opened: to open a pipe or a device has effects.
        let seen = File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(format!("/proc/{process}/fd/{file}"))
            .ok()
            .filter(fits)?;
        // The one that was seen, whatever the process has under that number now.
        let found = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", seen.as_raw_fd()))
            .ok()?;
        // SAFETY: a call on an open file.
        let seals = unsafe { libc::fcntl(found.as_raw_fd(), libc::F_GET_SEALS) };
        // Now that the length stays, it is looked at once more.
        (seals != -1 && seals & SEALS == SEALS && fits(&found)).then_some(found)
    }

    pub fn borrow(js: Js, [process, file, first, second]: [u32; 4]) -> Value {
        let Some(memory) = open(process, file).and_then(|found| map(&found)) else {
            return ptr::null_mut();
        };
        // SAFETY: mapped with room for two words and more.
        let secret = unsafe { slice::from_raw_parts(memory.cast::<AtomicU32>(), 2) };
        if [&secret[0], &secret[1]].map(|half| half.load(Ordering::SeqCst)) != [first, second] {
            unmap(memory);
            return ptr::null_mut();
        }
        let mut buffer = ptr::null_mut();
        // SAFETY: the mapping stays until the finalizer ends it.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(js.env, memory, BYTES, Some(give_back), ptr::null_mut(), &mut buffer)
        };
        if status != sys::Status::napi_ok {
            unmap(memory);
            return ptr::null_mut();
        }
        buffer
    }

    unsafe extern "C" fn give_back(_env: sys::napi_env, memory: *mut c_void, _hint: *mut c_void) {
        unmap(memory);
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{AtomicU32, Value, ptr};
    use crate::binding::raw::Js;

    pub fn make() -> Option<(u32, &'static [AtomicU32])> {
        None
    }

    pub fn borrow(_js: Js, _address: [u32; 4]) -> Value {
        ptr::null_mut()
    }
}

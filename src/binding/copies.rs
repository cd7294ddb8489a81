//! Other copies of this addon in the process: a program may have the package twice, and each has a lock table of its own.

use super::raw::{Function, entry};
use std::ptr;

pub const FUNCTIONS: &[Function] = &[("version", version), ("firstCopy", first_copy)];

entry! {
    /// `version()`: addons of one version can stand in for each other.
    version(0) |js, _args| js.text(env!("CARGO_PKG_VERSION"))
}

entry! {
    /// `firstCopy()`: the file of the copy that was loaded into this process before this one; `undefined` if this is the first, and where
    /// the operating system does not tell.
    first_copy(0) |js, _args| first_file().map_or(ptr::null_mut(), |file| js.text(&file))
}

/// Whether a loaded library is a copy of this addon, by its file's name.
#[cfg(any(unix, test))]
fn is_copy(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("ipc-mutex.") && name.ends_with(".node")
}

#[cfg(unix)]
fn first_file() -> Option<String> {
    let own = own_file()?;
    loaded()
        .into_iter()
        .find(|path| is_copy(path))
        .filter(|path| *path != own)
}

#[cfg(not(unix))]
fn first_file() -> Option<String> {
    None
}

#[cfg(unix)]
fn own_file() -> Option<String> {
    // SAFETY: all zeros are a valid `Dl_info`, which the call fills; its name is a C string of the loader that stays while this code is loaded.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let here = own_file as fn() -> Option<String> as *const std::ffi::c_void;
        (libc::dladdr(here, &raw mut info) != 0 && !info.dli_fname.is_null())
            .then(|| std::ffi::CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned())
    }
}

/// The files of all libraries of the process, in the order in which they were loaded.
#[cfg(target_os = "linux")]
fn loaded() -> Vec<String> {
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _size: usize, into: *mut std::ffi::c_void) -> i32 {
        // SAFETY: the loader gives a record with a C string, and passes on the list that `loaded` gave it.
        unsafe {
            let name = (*info).dlpi_name;
            if !name.is_null() {
                let name = std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned();
                (*into.cast::<Vec<String>>()).push(name);
            }
        }
        0
    }
    let mut found: Vec<String> = Vec::new();
    // SAFETY: the list outlives the call, which uses it on this thread only.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut found).cast()) };
    found
}

#[cfg(all(unix, not(target_os = "linux")))]
fn loaded() -> Vec<String> {
    #[cfg(target_os = "macos")]
    // SAFETY: the loader gives C strings that stay while the library is loaded, or null for a number that is none.
    unsafe {
        (0..libc::_dyld_image_count())
            .map(|number| libc::_dyld_get_image_name(number))
            .filter(|name| !name.is_null())
            .map(|name| std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned())
            .collect()
    }
    #[cfg(not(target_os = "macos"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::is_copy;

    #[test]
    fn copies_are_known_by_their_files_name() {
        assert!(is_copy("/app/node_modules/ipc-mutex/ipc-mutex.linux-x64-gnu.node"));
        assert!(!is_copy("/app/node_modules/other/other.linux-x64-gnu.node"));
        assert!(!is_copy("/ipc-mutex.d/libc.so"));
    }
}

//! The native core of `ipc-mutex`: mutual exclusion for Node.js.
//!
//! One lock table without I/O ([`core`]) serves three masters: one process directly, a `cluster` through its
//! primary, and every remote [`backend`] as the gate inside the process (`runtime`). `binding` is the only module
//! that knows Node.js, and is absent without the cargo feature `addon`.

pub mod backend;
#[cfg(feature = "addon")]
// napi leaves out the registration of a module in test builds, and with it the only caller of all this.
#[cfg_attr(test, allow(dead_code))]
mod binding;
pub mod clock;
pub mod core;
pub mod credentials;
pub mod error;
pub mod local;
#[cfg(unix)]
pub mod lock_file;
pub mod options;
pub mod runtime;
pub mod secret;
#[cfg(target_os = "linux")]
pub mod shared_table;
pub mod url;

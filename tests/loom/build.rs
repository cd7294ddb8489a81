//! Switches this one crate to loom's atomics and mutex. Not by RUSTFLAGS, which would switch tokio and others too.

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}

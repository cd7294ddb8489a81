//! The files of the local lock table, compiled for loom, and the tests that run them in every interleaving.
#![cfg(test)]
// Not everything of these modules is used here.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/core/mod.rs"]
mod core;
#[path = "../../../src/local/mod.rs"]
mod local;

#[path = "../../words/mod.rs"]
mod words;

mod environment;
mod lent;
mod word;
mod worker;

//! What the runtime does when a server fails, in each phase of a request.

mod leases;
mod leaving;
mod refused;
mod stealing;
mod trying;
mod world;

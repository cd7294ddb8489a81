//! What the runtime does when a server fails, in each phase of a request.

mod leases;
mod leaving;
mod stealing;
mod refused;
mod trying;
mod world;

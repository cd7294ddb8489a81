//! What the scripts are told: one place for both ways to the server, this backend's connections and the express lane.

use super::info;
use super::script::{Call, Scripts};
use crate::backend::{Ask, Identity};
use crate::url::Server;
use std::sync::Arc;

pub(super) struct Calls {
    scripts: Scripts,
    /// Milliseconds, as the scripts want it.
    ttl: String,
    identity: Arc<Identity>,
}

impl Calls {
    pub fn new(server: &Server, identity: Arc<Identity>) -> Self {
        Self {
            scripts: Scripts::new(),
            ttl: server.options.ttl.as_millis().to_string(),
            identity,
        }
    }

    /// Takes the lock, or else a place in the queue if there is a `channel` on which the grant is heard.
    pub fn acquire(&self, ask: &Ask, channel: Option<&str>) -> Call<'_> {
        self.ask(ask, if channel.is_some() { "wait" } else { "try" }, channel)
    }

    /// The same, but for a place that the owner has already: that is left as it is. For the lane, whose question may come to the server after
    /// that of whoever has adopted the request.
    pub fn join(&self, ask: &Ask, channel: &str) -> Call<'_> {
        self.ask(ask, "join", Some(channel))
    }

    fn ask(&self, ask: &Ask, attempt: &str, channel: Option<&str>) -> Call<'_> {
        let arguments = vec![
            ask.owner.0.to_string(),
            info::letter(ask.mode).to_owned(),
            attempt.to_owned(),
            if ask.fenced { "1" } else { "0" }.to_owned(),
            self.ttl.clone(),
            channel.unwrap_or("-").to_owned(),
            info::write(ask, &self.identity),
        ];
        self.scripts.acquire.call(&ask.id, arguments)
    }

    /// Takes the lock from whoever has it.
    pub fn steal(&self, ask: &Ask) -> Call<'_> {
        let arguments = vec![
            ask.owner.0.to_string(),
            if ask.fenced { "1" } else { "0" }.to_owned(),
            self.ttl.clone(),
            info::write(ask, &self.identity),
        ];
        self.scripts.steal.call(&ask.id, arguments)
    }

    /// Takes the lock if that is the simplest case, else does nothing. Without a fencing token.
    pub fn acquire_simply(&self, ask: &Ask) -> Call<'_> {
        let arguments = vec![self.value(ask), self.ttl.clone()];
        self.scripts.express_acquire.call_with(&ask.id, &["queue"], arguments)
    }

    /// Releases a lock that was taken without a fencing token if that is the simplest case, else does nothing.
    pub fn release_simply(&self, ask: &Ask) -> Call<'_> {
        self.scripts
            .express_release
            .call_with(&ask.id, &["queue", "turns"], vec![self.value(ask)])
    }

    /// What the main key holds while `ask` holds the lock exclusively, without a fencing token: the same as in `words.lua`.
    fn value(&self, ask: &Ask) -> String {
        format!("ipc-mutex:x {} - {}", ask.owner.0, info::write(ask, &self.identity))
    }

    pub fn release(&self, ask: &Ask) -> Call<'_> {
        self.scripts.release.call(&ask.id, vec![ask.owner.0.to_string()])
    }

    /// Renews all of `asks`, which are for the lock `id`.
    pub fn renew<'a>(&self, id: &str, asks: impl Iterator<Item = &'a Ask>) -> Call<'_> {
        let pairs = asks.flat_map(|ask| [ask.owner.0.to_string(), self.ttl.clone()]);
        self.scripts.renew.call(id, pairs.collect())
    }

    pub fn query(&self, id: &str) -> Call<'_> {
        self.scripts.query.call(id, Vec::new())
    }
}

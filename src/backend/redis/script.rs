//! The scripts, how they are called, and the names of their keys.

use redis::Cmd;

/// One script: the words and the state that all of them share, then its own steps. Before the state, in some, the cases that are common and
/// need none of it.
pub(super) struct Script {
    text: &'static str,
    /// The hexadecimal SHA-1 by which the server knows it.
    digest: String,
}

/// All that is ever run on the server.
pub(super) struct Scripts {
    pub acquire: Script,
    pub release: Script,
    pub renew: Script,
    pub steal: Script,
    pub query: Script,
    pub express_acquire: Script,
    pub express_release: Script,
}

macro_rules! script {
    ($plain:literal then $name:literal) => {
        script!("words.lua", $plain, "state.lua", "legacy.lua", "queue.lua", $name)
    };
    ($($part:literal),+) => {
        Script::new(concat!($(include_str!(concat!("lua/", $part)), "\n"),+))
    };
}

impl Scripts {
    pub fn new() -> Self {
        Self {
            acquire: script!("acquire_plain.lua" then "acquire.lua"),
            release: script!("release_plain.lua" then "release.lua"),
            renew: script!("words.lua", "state.lua", "legacy.lua", "queue.lua", "renew.lua"),
            steal: script!("words.lua", "state.lua", "legacy.lua", "queue.lua", "steal.lua"),
            query: script!("words.lua", "state.lua", "query.lua"),
            express_acquire: Script::new(include_str!("lua/express_acquire.lua")),
            express_release: Script::new(include_str!("lua/express_release.lua")),
        }
    }
}

impl Script {
    fn new(text: &'static str) -> Self {
        let digest = redis::Script::new(text).get_hash().to_owned();
        Self { text, digest }
    }

    /// A call for the lock `id`.
    pub fn call(&self, id: &str, arguments: Vec<String>) -> Call<'_> {
        Call {
            script: self,
            keys: keys(id, &BESIDE),
            arguments,
        }
    }

    /// A call that needs only the main key and these.
    pub fn call_with(&self, id: &str, beside: &[&str], arguments: Vec<String>) -> Call<'_> {
        Call {
            script: self,
            keys: keys(id, beside),
            arguments,
        }
    }
}

/// A call of one script for one lock.
pub(super) struct Call<'a> {
    script: &'a Script,
    keys: Vec<String>,
    arguments: Vec<String>,
}

impl Call<'_> {
    /// By digest, which is all that goes over the wire once the server knows the script.
    pub fn by_digest(&self) -> Cmd {
        self.complete("EVALSHA", &self.script.digest)
    }

    /// With the script's text, which the server keeps from then on.
    pub fn by_text(&self) -> Cmd {
        self.complete("EVAL", self.script.text)
    }

    fn complete(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        for argument in &self.arguments {
            command.arg(argument);
        }
        command
    }
}

/// What stands beside the main key, in the order of `words.lua`.
const BESIDE: [&str; 6] = ["queue", "beats", "readers", "info", "token", "turns"];

/// What the main key ends with.
const MAIN: &str = "/lock.IPC-Mutex-rpm";
/// What every key of a lock matches, as a pattern of SCAN.
pub(super) const EVERY_LOCK: &str = "*/lock.IPC-Mutex-rpm*";

/// The lock of which this is the main key or the queue: while anybody holds it or waits for it, one of them is there.
pub(super) fn lock_of(key: &str) -> Option<&str> {
    let main = match key.strip_suffix(":queue") {
        // Braces are ours, or the main key's own.
        Some(tag) if tag.ends_with('}') => tag.strip_prefix('{')?.strip_suffix('}')?,
        Some(tag) => tag,
        None => key,
    };
    main.strip_suffix(MAIN).filter(|id| !id.is_empty() && !id.contains('/'))
}

/// The main key of a lock and some of those beside it, all in one slot of a Redis Cluster. That is decided by what stands between the first
/// braces of a key, else by all of it: the others have the main key in braces, or begin with it where it has braces of its own.
fn keys(id: &str, beside: &[&str]) -> Vec<String> {
    let main = format!("{id}{MAIN}");
    let tag = match main.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
        Some((inside, _)) if !inside.is_empty() => main.clone(),
        _ => format!("{{{main}}}"),
    };
    let mut keys = vec![main];
    keys.extend(beside.iter().map(|part| format!("{tag}:{part}")));
    keys
}

#[cfg(test)]
mod tests {
    use super::{keys, lock_of};

    #[test]
    fn an_id_with_braces_decides_the_slot_of_all_keys() {
        for (id, beside) in [
            ("foo", "{foo/lock.IPC-Mutex-rpm}:queue"),
            ("a{b}c", "a{b}c/lock.IPC-Mutex-rpm:queue"),
            ("{a}{b}", "{a}{b}/lock.IPC-Mutex-rpm:queue"),
            ("a{b", "{a{b/lock.IPC-Mutex-rpm}:queue"),
        ] {
            let main = format!("{id}/lock.IPC-Mutex-rpm");
            assert_eq!(lock_of(&main), Some(id));
            assert_eq!(lock_of(beside), Some(id));
            assert_eq!(keys(id, &["queue"]), [main, beside.to_owned()]);
        }
    }

    #[test]
    fn other_keys_name_no_lock() {
        for key in [
            "foo",
            "/lock.IPC-Mutex-rpm",
            "a/b/lock.IPC-Mutex-rpm",
            "{foo/lock.IPC-Mutex-rpm}:info",
            "queue",
            ":queue",
        ] {
            assert_eq!(lock_of(key), None, "{key}");
        }
    }
}

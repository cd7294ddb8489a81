// Broken variants of the product, each of which a torture must catch: a change of text, the torture that is run on it, and what that must say.
// What is broken in the addon is switched on by the environment in one patched build, since a build takes minutes.

/** The environment's variable that chooses among the faults of the patched addon. */
export const SWITCH = "IPC_MUTEX_BROKEN"

/** No fault has this in its name. */
const CALM = "none"

const broken = (name) => `crate::broken("${name}")`
const OVERLAP = /was granted while/, IDLE = /was held by nobody/

/** Faults of the JavaScript layer: file and changes. */
const JAVASCRIPT = [
    {
        name: "no fence", file: "lib/hold.js", changes: [ [ "this.token   = token\n", "this.token   = token === undefined ? undefined : 1n\n" ] ],
        target: "spm", only: CALM, minutes: 0.1, says: /was granted with token 1 after/
    },
    {
        name: "lost wake-up", file: "lib/models/rpm.js",
        changes: [ [ "granted (token) {\n", "granted (token) {\n        if (Math.random() < 0.05)\n            return\n" ] ],
        target: "redis", only: CALM, minutes: 0.5, says: IDLE
    },
    {
        name: "lost wake-up between threads", file: "lib/models/spm.js",
        changes: [ [ "port.onLocalGrant(grant)", "port.onLocalGrant((...told) => Math.random() < 0.1 ? undefined : grant(...told))" ] ],
        target: "spm", only: CALM, minutes: 0.5, says: IDLE
    },
    {
        name: "close without withdrawal", file: "lib/models/rpm.js",
        changes: [ [ "await port.call((number) => native.remoteClose(port.attach(), number, this.mutex))", "await undefined" ] ],
        target: "redis", only: CALM, minutes: 0.5, says: IDLE
    },
    {
        name: "the clock of the lease is not asked", file: "lib/models/rpm.js",
        changes: [ [ "if (native.remoteBelieved(port.attach(), hold.key))", "if (true)" ] ],
        target: "redis", only: "a client stands still", minutes: 0.75, says: OVERLAP
    },
    {
        name: "a worker that was cut off does not know", file: "lib/cluster/client.js",
        changes: [ [ "Atomics.load(this.#memory, this.#sign) !== this.#owner", "false" ] ],
        target: "mpm", only: "workers alone", minutes: 1, says: OVERLAP
    }
]

/** Faults of the addon. */
const RUST = [
    {
        name: "no renewal", file: "src/runtime/renewing.rs",
        changes: [ [ "if self.under_way.len() >= AT_ONCE", `if ${broken("no renewal")} || self.under_way.len() >= AT_ONCE` ] ],
        target: "redis", only: CALM, minutes: 0.5, says: /lost while nothing was wrong/
    },
    {
        name: "release without owner check", file: "src/backend/redis/script.rs",
        changes: [ [ "        let digest =", `        let text: &'static str = if ${broken("release without owner check")} {
            text.replace("if state == 'exclusive' and holder == owner then\\n    state = 'free'", "if state == 'exclusive' then\\n    state = 'free'").leak()
        } else {
            text
        };
        let digest =` ] ],
        target: "redis", only: CALM, minutes: 0.25, says: OVERLAP
    }
]

/** What chooses, in the patched addon alone. */
export const CHOICE = [ "src/lib.rs", `
pub(crate) fn broken(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("${SWITCH}").unwrap_or_default()) == name
}
` ]

export const variants = [ ...JAVASCRIPT.map((variant) => ({ ...variant, rust: false })), ...RUST.map((variant) => ({ ...variant, rust: true })) ]

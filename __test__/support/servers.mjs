// Private real servers for tests: each on free loopback ports and in a temporary folder, ended with the test or, whatever
// happens, with the test process.
//
//     test("a waiter gets the lock when the server is back", async (t) => {
//         const server = await redis(t, { password: true, persistent: true })
//         const mutex = new Mutex(server.url("foo", { ttl: 3 }))
//         ...
//         await server.restart()
//         ...
//         await noLeftovers(server)
//     })
//
// Options of all: `password` (a text, or true for a random one), `user`, `tls` (true, or "expired" or "wrong-name" for a
// server that shows such a certificate), `clientCert: true` (with tls: the server wants one), `config` (see below).
//
// - Redis: `persistent: true`: a restart keeps the data (append-only file), else it loses it. `config`: lines of redis.conf.
// - PostgreSQL: `auth`: "scram" (default with a password), "md5", "password" or "trust" (default without). `database`: made if
//   it is missing, and in the URLs. `standby: true`: a read-only hot standby. The user is "tester" by default.
//   `config`: lines of postgresql.conf.
// - etcd: `nodes: 3`. With a password the user is "tester" by default. `config`: command line arguments.
// - Consul: `acl: true` (as with a password): deny by default, `server.password` is a token for keys and sessions.
//   `config`: an object, merged with the others' settings.
//
// What they resolve with is described at class `Server` in servers/server.mjs; in short: `name`, `host`, `port`, `pid`, `pids`,
// `user`, `password`, `tlsFiles`, `url(id, params, where)`, `stop()`, `kill()`, `start()`, `restart({ wipe, kill })`, `pause()`,
// `resume()`, `close()`, `connections()`, `leftovers()`, `nodes` (etcd: each with `port`, `pid`, `leads()` and a life cycle of
// its own) and `admin`, the tests' own view:
//
// | server | `admin`                                                                                                |
// |--------|--------------------------------------------------------------------------------------------------------|
// | Redis  | `command(...words)`, `keys()`, `clients()`, `commandCounts()`                                            |
// | pgsql  | `query(sql)` -> rows of texts, `sessions()`, `locks()`, `terminate(pids?)`                                |
// | etcd   | `call(path, body)` (JSON gateway), `keys()`, `leases()`, `revoke(lease)`, `put(key, value)`, `remove(key)` |
// | Consul | `call(method, path, body)`, `keys()`, `sessions()`, `destroy(session)`, `remove(key)`                     |
import { AssertionError } from "node:assert"
import { startRedis } from "./servers/redis.mjs"
import { startPostgres } from "./servers/postgres.mjs"
import { startEtcd } from "./servers/etcd.mjs"
import { startConsul } from "./servers/consul.mjs"
import { startPgBouncer } from "./servers/pgbouncer.mjs"
import { waitFor } from "./waiting.mjs"

export { startRedis, startPostgres, startEtcd, startConsul, startPgBouncer }
export { tlsFiles } from "./servers/server.mjs"
export { base64, text } from "./servers/etcd.mjs"

/** A private server that ends with test (or suite) `t`: `await redis(t, options)`. */
export const redis = ending(startRedis)
/** As `redis`. */
export const postgres = ending(startPostgres)
/** As `redis`. */
export const etcd = ending(startEtcd)
/** As `redis`. */
export const consul = ending(startConsul)

/**
 * A private PgBouncer in front of `server`, a PostgreSQL without password and TLS, that ends with test `t`.
 * Options: `mode` ("transaction" by default, "session", "statement"), `config` (lines of pgbouncer.ini). It has `url`, `port`
 * and the life cycle of a server.
 */
export async function pgbouncer (t, server, options) {
    return await ending((rest) => startPgBouncer(server, rest))(t, options)
}

/** All four by the name in the URL's scheme, for tests that do the same on each: `servers.redis(t)`. */
export const servers = Object.freeze({ redis, pgsql: postgres, consul, etcd })

function ending (start) {
    return async (t, options) => {
        const server = await start(options)
        const after = t?.after ?? t // the context of a test, or the function `after` of node:test for a whole file
        after.call(t, () => server.close())
        return server
    }
}

/**
 * Resolves once clients have left nothing at `server`: no key, session, lease, advisory lock or connection.
 * Fails with the list of what is still there after `timeout` (30,000) milliseconds.
 *
 * @param {import("./servers/server.mjs").Server} server
 * @param {object} [options]
 * @param {number} [options.timeout] milliseconds
 * @param {boolean} [options.connections] false: open connections are no fault
 * @param {RegExp} [options.ignore] what matches it is no fault either
 */
export async function noLeftovers (server, { timeout = 30_000, ...options } = {}) {
    let found = []
    try {
        await waitFor(async () => {
            found = await server.leftovers(options)
            return found.length === 0
        }, { timeout, every: 50, what: "a clean server" })
    }
    catch (error) {
        throw new AssertionError({ message: `left behind at ${server.name}:\n${found.join("\n") || error.cause?.message}`,
            actual: found, expected: [], operator: "noLeftovers", stackStartFn: noLeftovers })
    }
}

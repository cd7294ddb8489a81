// Connection strings of private servers, and contenders that know nothing but SQL.
import Mutex from "ipc-mutex"
import { mutexUrl } from "ipc-mutex/advisory-lock"
import { PgClient } from "../support/clients/pg.mjs"
import { waitFor } from "../support/waiting.mjs"

/** The connection URI of `server`; `params` are libpq's. */
export function conString (server, params = {}, { port = server.port, host = server.host } = {}) {
    const user = encodeURIComponent(server.user) + (server.password === undefined ? "" : `:${encodeURIComponent(server.password)}`)
    const query = new URLSearchParams(params).toString().replaceAll("+", "%20")
    return `postgres://${user}@${host}:${port}/${server.database ?? "template1"}${query && `?${query}`}`
}

/** A session of its own that locks by plain SQL, ended with test `t`. */
export function session (t, server) {
    const { host, port, user, password, database } = server
    const client = new PgClient({ host, port }, { user, password, database })
    t.after(() => client.disconnect())
    const call = async (name, [ a, b ]) => (await client.query(`SELECT ${name}(${a}, ${b})`))[0][0] === "t"
    return {
        tryLock: (key) => call("pg_try_advisory_lock", key),
        unlock: (key) => call("pg_advisory_unlock", key),
        tryLockShared: (key) => call("pg_try_advisory_lock_shared", key),
        unlockShared: (key) => call("pg_advisory_unlock_shared", key),
        async lock (key) { await call("pg_advisory_lock", key) },
        disconnect: () => client.disconnect()
    }
}

/** Resolves when `number` sessions wait for an advisory lock at the server; readers of one process wait on one. */
export async function waiters (server, number) {
    await waitFor(async () => (await server.admin.locks()).filter(({ granted }) => !granted).length === number,
        { what: `${number} waiting for advisory locks` })
}

/** Resolves when `number` wait for the lock called `name`, be it at the server or in this process. */
export async function queued (server, name, number) {
    const mutex = new Mutex(mutexUrl(conString(server), name))
    await mutex.open()
    await waitFor(async () => (await mutex.query()).pending.length === number, { what: `${number} waiting for ${name}` })
    await mutex.close()
}

// Connection strings of private servers, and contenders that know nothing but SQL.
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import Mutex from "ipc-mutex"
import { mutexUrl } from "ipc-mutex/advisory-lock"
import { PgClient } from "../support/clients/pg.mjs"
import { waitFor } from "../pgsql/patient.mjs"

/** The connection URI of `server`; `params` are libpq's. A machine that stands still for some seconds has the time to connect. */
export function conString (server, params = {}, { port = server.port, host = server.host } = {}) {
    const user = encodeURIComponent(server.user) + (server.password === undefined ? "" : `:${encodeURIComponent(server.password)}`)
    const query = new URLSearchParams({ connect_timeout: 30, ...params }).toString().replaceAll("+", "%20")
    return `postgres://${user}@${host}:${port}/${server.database ?? "template1"}${query && `?${query}`}`
}

/** A session of its own that locks by plain SQL. When test `t` has ended, so have the session and its locks. */
export function session (t, server) {
    const { host, port, user, password, database } = server
    const client = new PgClient({ host, port }, { user, password, database })
    t.after(async () => {
        const { pid } = client
        client.disconnect()
        if (pid !== undefined && server.pid !== undefined)
            await server.admin.terminate([ pid ]) // which waits until it has ended, be it by itself
    })
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
    try {
        await waitFor(async () => (await mutex.query()).pending.length === number, { what: `${number} waiting for ${name}` })
    }
    finally {
        await mutex.close()
    }
}

/** Counts the losses that this process hears of until test `t` ends, each a moment after the server has ended the hold. */
export function hearLosses (t) {
    const heard = { losses: 0 }
    const onend = ({ error }) => { heard.losses += error?.code === "ERR_LOCK_LOST" ? 1 : 0 }
    subscribe("tracing:ipc-mutex:hold:asyncEnd", onend)
    t.after(() => unsubscribe("tracing:ipc-mutex:hold:asyncEnd", onend))
    return heard
}

// Contenders that speak the protocol of ipc-mutex 1.1.2 with a plain client, for tests of old and new processes side by
// side. They do what the old package did on the wire and no more: exclusive, no renewal but where it had one, no queue.
//
//     const old = legacy(server)
//     await old.acquire("foo")
//     await old.release("foo")
//     await old.close()
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { exchange, json } from "./clients/http.mjs"
import { PgClient } from "./clients/pg.mjs"
import { RespClient } from "./clients/resp.mjs"
import { base64 } from "./servers/etcd.mjs"

/**
 * One contender of the 1.1.2 kind on `server`, as one object of the old class in a process of its own.
 * All methods take the lock's id; a contender may hold several ids, each once.
 *
 * - `acquire(id, { signal })` waits as long as it takes; an abort of the signal ends that after the attempt under way
 * - `tryAcquire(id)` makes one attempt and gives true or false
 * - `release(id)`
 * - `close()` ends the connection; what is held then is not released first
 *
 * @param {import("./servers/server.mjs").Server} server
 */
export function legacy (server) {
    const contenders = { redis: legacyRedis, pgsql: legacyPostgres, consul: legacyConsul, etcd: legacyEtcd }
    return contenders[server.name](server)
}

/** Takes with `SET NX PX`, retries every 50 ms, never renews, deletes only while its 10 seconds last. */
export function legacyRedis (server) {
    plain(server)
    const login = server.password === undefined ? undefined : [ ...(server.user === undefined ? [] : [ server.user ]), server.password ]
    const client = new RespClient({ host: server.host, port: server.port }, login)
    const key = (id) => `${id}/lock.IPC-Mutex-rpm`
    const ends = new Map()
    const tryAcquire = async (id) => {
        if (await client.command("SET", key(id), Date.now(), "PX", 10_000, "NX") !== "OK")
            return false
        ends.set(id, performance.now() + 10_000)
        return true
    }
    return {
        tryAcquire,
        acquire: repeating(tryAcquire, 50),
        async release (id) {
            const end = take(ends, id)
            if (performance.now() < end)
                await client.command("DEL", key(id))
        },
        async close () { client.disconnect() }
    }
}

/** Waits in the server, in a session of its own for each lock. */
export function legacyPostgres (server) {
    plain(server)
    const login = { user: server.user, password: server.password, database: server.database ?? "template1", application: "ipc-mutex 1.1.2" }
    const target = { host: server.host, port: server.port }
    const sessions = new Map() // as in the old package, where every object had a connection of its own
    const session = (id) => {
        if (!sessions.has(id))
            sessions.set(id, new PgClient(target, login))
        return sessions.get(id)
    }
    return {
        async tryAcquire (id) {
            const [ [ got ] ] = await session(id).query(`SELECT pg_try_advisory_lock(${legacyNumber(id)})`)
            return got === "t"
        },
        async acquire (id, { signal } = {}) {
            signal?.throwIfAborted()
            // there was no way to cancel but to close
            const abort = () => session(id).disconnect()
            signal?.addEventListener("abort", abort, { once: true })
            try {
                await session(id).query(`SELECT pg_advisory_lock(${legacyNumber(id)})`)
            }
            catch (error) {
                throw signal?.aborted ? signal.reason : error
            }
            finally {
                signal?.removeEventListener("abort", abort)
            }
        },
        async release (id) {
            const [ [ freed ] ] = await session(id).query(`SELECT pg_advisory_unlock(${legacyNumber(id)})`)
            if (freed !== "t")
                throw new Error(`the session does not hold "${id}"`)
        },
        async close () {
            for (const client of sessions.values())
                client.disconnect()
        }
    }
}

/** A session per lock, which is renewed, and the leader's key; waits with blocking reads of it. */
export function legacyConsul (server) {
    plain(server)
    const target = { host: server.host, port: server.port }
    const headers = server.password === undefined ? {} : { "x-consul-token": server.password }
    const call = (method, path, body) => json(target, method, path, { body, headers, timeout: 60_000 })
    const key = (id) => `/v1/kv/${encodeURIComponent(`IPC-Mutex-RPM/${id}/leader`)}`
    const sessions = new Map()
    const session = async (id) => {
        if (!sessions.has(id)) {
            const { ID } = await call("PUT", "/v1/session/create",
                { Name: `IPC-Mutex-RPM/${id}/session`, Behavior: "release", TTL: "15s", LockDelay: "0.5s" })
            const timer = setInterval(() => call("PUT", `/v1/session/renew/${ID}`).catch(() => {}), 5000).unref()
            sessions.set(id, { ID, timer })
        }
        return sessions.get(id).ID
    }
    const held = new Map()
    const tryAcquire = async (id) => {
        const mine = await session(id)
        const got = await call("PUT", `${key(id)}?acquire=${mine}`, "") === true
        if (got)
            held.set(id, mine)
        return got
    }
    return {
        tryAcquire,
        async acquire (id, { signal } = {}) {
            let index = 0
            while (!(await tryAcquire(id))) {
                const read = await exchange(target, "GET", `${key(id)}?wait=1s&index=${index}`, { headers, timeout: 60_000 })
                signal?.throwIfAborted()
                index = Number(read.headers["x-consul-index"] ?? 0)
                const busy = read.status === 200 && JSON.parse(read.body)[0].Session !== undefined
                if (!busy)
                    await sleep(100, undefined, { signal }) // the lock delay may last a while yet
            }
        },
        async release (id) {
            await call("PUT", `${key(id)}?release=${take(held, id)}`, "")
        },
        async close () {
            for (const { ID, timer } of sessions.values()) {
                clearInterval(timer)
                await call("PUT", `/v1/session/destroy/${ID}`)
            }
            sessions.clear()
        }
    }
}

/** A key under a lease of 30 seconds, put if it is not there, retried every 500 ms; freed by revoking the lease. */
export function legacyEtcd (server) {
    const { ca, crt, key } = server.tlsFiles
    const tls = server.options.tls ? { ca: readFileSync(ca), cert: readFileSync(crt), key: readFileSync(key) } : {}
    const target = { host: server.host, port: server.port, ...tls }
    let token
    const call = async (path, body) => {
        if (server.password !== undefined)
            token ??= (await json(target, "POST", "/v3/auth/authenticate", { body: { name: server.user, password: server.password } })).token
        return await json(target, "POST", path, { body, headers: token === undefined ? {} : { authorization: token } })
    }
    const leases = new Map()
    const revoke = async (id) => await call("/v3/lease/revoke", { ID: take(leases, id).lease })
    const tryAcquire = async (id) => {
        const key = base64(`IPC-Mutex-RPM-${id}-lock`)
        const { ID: lease } = await call("/v3/lease/grant", { TTL: 30 })
        const { succeeded } = await call("/v3/kv/txn", {
            compare: [ { key, target: "CREATE", result: "EQUAL", create_revision: "0" } ],
            success: [ { request_put: { key, value: base64(""), lease } } ]
        })
        if (!succeeded) {
            await call("/v3/lease/revoke", { ID: lease })
            return false
        }
        // the old client kept its lease alive for as long as its event loop ran
        const timer = setInterval(() => call("/v3/lease/keepalive", { ID: lease }).catch(() => {}), 10_000).unref()
        leases.set(id, { lease, end: () => clearInterval(timer) })
        return true
    }
    return {
        tryAcquire,
        acquire: repeating(tryAcquire, 500),
        async release (id) {
            leases.get(id)?.end()
            await revoke(id)
        },
        async close () {
            for (const { end } of leases.values())
                end()
        }
    }
}

/**
 * The number that 1.1.2 gives to `pg_advisory_lock` for an id: its UUID of version 5 in the URL namespace (RFC 4122),
 * the 16 bytes folded by XOR to 8 and to 4, read as an unsigned big-endian number.
 */
export function legacyNumber (id) {
    const space = Buffer.from("6ba7b8119dad11d180b400c04fd430c8", "hex")
    let bytes = createHash("sha1").update(space).update(id).digest().subarray(0, 16)
    bytes[6] = bytes[6] & 0x0f | 0x50
    bytes[8] = bytes[8] & 0x3f | 0x80
    while (bytes.length > 4) {
        const half = bytes.length / 2
        bytes = Buffer.from(bytes.subarray(0, half).map((byte, at) => byte ^ bytes[half + at]))
    }
    return bytes.readUInt32BE(0)
}

function repeating (tryAcquire, pause) {
    return async (id, { signal } = {}) => {
        while (!(await tryAcquire(id)))
            await sleep(pause, undefined, { signal })
    }
}

function take (map, id) {
    if (!map.has(id))
        throw new Error("still not acquired")
    const value = map.get(id)
    map.delete(id)
    return value
}

function plain (server) {
    if (server.options.tls)
        throw new Error("these contenders speak no TLS on this server")
}

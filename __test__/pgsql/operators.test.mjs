// What those who run a server do to it, and to its sessions.
// time limit: 600 s
import { test } from "node:test"
import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { Mutex, freshId, opened } from "../conformance/world.mjs"
import { noLeftovers, postgres, waitFor } from "./patient.mjs"

watchLeaks()

const waiting = async (server) => (await server.admin.locks()).filter((lock) => !lock.granted)

test("cancelled statements fail no call, and lose no lock", async (t) => {
    const server = await postgres(t, {})
    const ids = [ freshId(), freshId() ]
    const mutexes = []
    for (const id of ids)
        for (let each = 0; each < 4; each++) // different options make different clients, as different processes are
            mutexes.push(await opened(t, server.url(id, { connect_timeout: 31 + each })))
    const inside = new Map()
    const work = mutexes.map(async (mutex, number) => {
        for (let round = 0; round < 60; round++) {
            const shared = (round + number) % 3 === 0
            const lock = await mutex.lock({ shared })
            const others = inside.get(mutex.id) ?? []
            assert.ok(shared ? others.every((other) => other.shared) : others.length === 0, "nobody else is inside who excludes this one")
            inside.set(mutex.id, [ ...others, { number, shared } ])
            await new Promise(setImmediate)
            inside.set(mutex.id, inside.get(mutex.id).filter((other) => other.number !== number))
            await lock.release()
        }
    })
    let over = false
    const all = Promise.all(work).finally(() => { over = true })
    while (!over)
        await server.admin.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
    await all
    assert.deepEqual(await server.admin.locks(), [])
    await Promise.all(mutexes.map((mutex) => mutex.close()))
    await noLeftovers(server)
})

test("a wait that is interrupted stays where it is in the queue, also where a role's errors end its sessions", async (t) => {
    const server = await postgres(t, {})
    await server.admin.query(`ALTER ROLE ${server.user} SET exit_on_error = on`)
    const id = freshId()
    const [ holder, waiter ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { connect_timeout: 31 })) ]
    await holder.acquire()
    const wait = waiter.lock()
    await waitFor(async () => (await waiting(server)).length === 1, { what: "the waiter to wait" })
    const [ { pid } ] = await waiting(server)
    const since = async () => (await server.admin.query(`SELECT xact_start FROM pg_stat_activity WHERE pid = ${pid}`))[0]?.[0]
    const before = await since()
    await server.admin.query(`SELECT pg_cancel_backend(${pid})`)
    await waitFor(async () => await since() !== before, { what: "the wait to begin anew" })
    await waitFor(async () => (await waiting(server)).length === 1, { what: "the waiter to wait again" })
    assert.equal((await waiting(server))[0].pid, pid)
    await holder.release()
    await (await wait).release()
})

test("a wait outlives a failover in which the next primary is a replica for a while", async (t) => {
    const [ former, next ] = [ await postgres(t, {}), await postgres(t, { standby: true }) ]
    const id = freshId()
    const url = (params) => former.url(id, params).replace(`:${former.port}`, `:${former.port},127.0.0.1:${next.port}`)
    const [ holder, stranger, waiter ] = [ await opened(t, url()), new Mutex(next.url(id)), await opened(t, url({ connect_timeout: 31 })) ]
    await holder.acquire()
    const ended = []
    const wait = waiter.lock()
    wait.catch((error) => ended.push(error))
    await waitFor(async () => (await waiting(former)).length === 1, { what: "the waiter to wait" })
    await former.stop()
    const refused = async () => {
        const log = await readFile(join(next.folder, "log"), "utf8")
        return log.split("\n").filter((line) => line.includes("connection authorized")).length >= 3
    }
    await next.admin.query("ALTER SYSTEM SET log_connections = on")
    await next.admin.query("SELECT pg_reload_conf()")
    await waitFor(refused, { what: "the replica to be asked" })
    // Who asks a replica for the first time is told.
    await assert.rejects(stranger.open(), { code: "ERR_SERVER", message: /read-only replica/ })
    assert.deepEqual(ended, [])
    await next.admin.query("SELECT pg_promote()")
    await (await wait).release()
    await assert.rejects(holder.release(), { code: "ERR_LOCK_LOST" })
})

test("sessions of different users of one program look after each other", async (t) => {
    const server = await postgres(t, { password: true, config: [ "log_statement = 'all'" ] })
    for (const user of [ "even", "odd" ])
        await server.admin.query(`CREATE ROLE ${user} LOGIN PASSWORD 'sesame'`)
    const id = freshId()
    const holder = await opened(t, server.url(id))
    await holder.acquire()
    let asked = 0
    const credentials = () => ({ user: asked++ % 2 === 0 ? "even" : "odd", password: "sesame" })
    const options = { user: undefined, password: undefined }
    const waiter = new Mutex(server.url(id, { ttl: 2 }, options), { credentials })
    await waiter.open()
    t.after(() => waiter[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]())
    const wait = waiter.lock()
    await waitFor(async () => (await waiting(server)).length === 1, { what: "the waiter to wait" })
    const [ { pid } ] = await waiting(server)
    const looks = async () => (await readFile(join(server.folder, "log"), "utf8")).split("\n").filter((line) => /execute .*l\.waits/.test(line)).length
    const before = await looks()
    await waitFor(async () => await looks() >= before + 8, { what: "the wait to be looked at" })
    assert.deepEqual((await waiting(server)).map((lock) => lock.pid), [ pid ])
    assert.equal(asked, 3)
    const users = await server.admin.query("SELECT DISTINCT usename FROM pg_stat_activity WHERE usename IN ('even', 'odd')")
    assert.equal(users.length, 2)
    await holder.release()
    await (await wait).release()
    await waiter.close()
    await noLeftovers(server)
})

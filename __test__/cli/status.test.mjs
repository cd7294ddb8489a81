import { after, describe, test } from "node:test"
import assert from "node:assert/strict"
import { hostname } from "node:os"
import Mutex from "ipc-mutex"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, postgres, redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { PATIENT, run, start } from "./programs.mjs"

watchLeaks()
const server = await redis(after, { password: true })
let count = 0

/** A fresh lock: its URL and open mutexes, closed with the test. */
async function lock (t, labels = [ "first" ], on = server) {
    const url = on.url(`status-${++count}`, PATIENT)
    const mutexes = labels.map((label) => new Mutex(url, { label }))
    for (const mutex of mutexes) {
        await mutex.open()
        t.after(() => mutex.close())
    }
    return { url, id: mutexes[0].id, mutexes }
}

/** Makes another process wait for the lock, in order to run a command. A test that frees the lock sees it to its end, so that it leaves nothing behind. */
async function queue (t, mutex, url, command, options = []) {
    const before = (await mutex.query()).pending.length
    const job = start(t, "ipc-mutex", [ "exec", ...options, url, "--", command ])
    await waitFor(async () => (await mutex.query()).pending.length === before + 1, { timeout: 60_000, what: "another waiter" })
    return job
}

describe("status", () => {
    test("of a free lock is one line", async (t) => {
        const { url, id } = await lock(t)
        assert.deepEqual(await run(t, "ipc-mutex", [ "status", url ]), { code: 0, signal: null, stdout: `lock "${id}" is free\n`, stderr: "" })
        const { stdout } = await run(t, "ipc-mutex", [ "status", "--json" ], { env: { IPC_MUTEX_URL: url } })
        assert.deepEqual(JSON.parse(stdout), { id, held: [], pending: [] })
    })

    test("shows holder and waiters as a table, in the order of the queue", async (t) => {
        const { url, id, mutexes: [ a ] } = await lock(t, [ "nightly\u001b[31m backup" ])
        const held = await a.lock()
        const jobs = [ await queue(t, a, url, "cat"), await queue(t, a, url, "/usr/bin/env", [ "--shared" ]) ]
        const { code, stdout, stderr } = await run(t, "ipc-mutex", [ "status", url ])
        assert.deepEqual({ code, stderr }, { code: 0, stderr: "" })
        const [ title, head, ...rows ] = stdout.trimEnd().split("\n")
        assert.equal(title, `lock "${id}" is held, 2 waiting`)
        assert.deepEqual(head.trim().split(/\s{2,}/).slice(0, 4), [ "MODE", "FOR", "HOST", "PID" ])
        assert.equal(rows.length, 3)
        assert.match(rows[0], new RegExp(`^holder +exclusive +\\d+ s +${hostname()} +${process.pid} .*nightly\\?\\[31m backup +${held.token}$`))
        assert.match(rows[1], /^waiter 1 +exclusive .*cat$/)
        assert.match(rows[2], /^waiter 2 +shared .*env$/)
        assert.equal(new Set([ head, ...rows ].map((row) => row.search(/MODE|exclusive|shared/))).size, 1)
        await held.release()
        for (const job of jobs)
            assert.equal((await job.end()).code, 0)
    })

    test("--json tells programs the same", async (t) => {
        const { url, id, mutexes: [ a ] } = await lock(t)
        const held = await a.lock()
        const job = await queue(t, a, url, "cat", [ "-s" ])
        const { code, stdout, stderr } = await run(t, "ipc-mutex", [ "status", "--json", url ])
        assert.deepEqual({ code, stderr, lines: stdout.split("\n").length }, { code: 0, stderr: "", lines: 2 })
        const { held: [ holder ], pending: [ waiter ], ...rest } = JSON.parse(stdout)
        assert.deepEqual(rest, { id })
        assert.deepEqual({ ...holder, since: undefined, thread: undefined },
            { mode: "exclusive", token: String(held.token), host: hostname(), pid: process.pid, label: "first", since: undefined, thread: undefined })
        assert.ok(Math.abs(new Date(holder.since) - Date.now()) < 60_000)
        assert.equal(waiter.mode, "shared")
        assert.equal(waiter.label, "cat")
        await held.release()
        assert.equal((await job.end()).code, 0)
    })

    test("leaves out what PostgreSQL does not know", async (t) => {
        const other = await postgres(t, { password: true, database: "app" })
        const { url, mutexes: [ a ] } = await lock(t, [ "first" ], other)
        await a.acquire()
        const { stdout } = await run(t, "ipc-mutex", [ "status", url ])
        assert.match(stdout, new RegExp(`\nholder +exclusive +${hostname().slice(0, 28)} +${process.pid}`))
        assert.doesNotMatch(stdout, /FOR|undefined/)
    })
})

describe("status --watch", () => {
    test("writes again whenever something has changed, until it is interrupted", async (t) => {
        const { url, id, mutexes: [ a ] } = await lock(t)
        const job = start(t, "ipc-mutex", [ "status", "--watch", "--json", url ])
        const states = () => job.stdout.split("\n").slice(0, -1).map((line) => JSON.parse(line))
        const seen = (condition, what) => waitFor(condition, { timeout: 60_000, what })
        await seen(() => states().length === 1, "the free lock")
        await a.acquire()
        await seen(() => states().at(-1).held.length === 1, "the holder")
        const waiter = await queue(t, a, url, "cat")
        await seen(() => states().at(-1).pending[0]?.label === "cat", "the waiter")
        await a.release()
        await seen(() => states().at(-1).held.length === 0, "the end")
        assert.ok(states().every((state) => state.id === id))
        assert.equal((await waiter.end()).code, 0)
        job.signal("SIGINT")
        const { signal, stderr } = await job.end()
        assert.deepEqual({ signal, stderr }, { signal: "SIGINT", stderr: "" })
    })

    test("draws a screen anew on a terminal", async (t) => {
        const { url, id, mutexes: [ a ] } = await lock(t)
        const job = start(t, "ipc-mutex", [ "status", "--watch", url ], { terminal: true })
        await job.says(`\x1b[H\x1b[2Jlock "${id}" is free\r\n`)
        await a.acquire()
        await job.says(`\x1b[H\x1b[2Jlock "${id}" is held\r\n`)
        job.input.write("\x03")
        assert.equal((await job.end()).code, 130)
    })

    test("goes on when the server has been away, and says so", async (t) => {
        const other = await redis(t, { password: true })
        const { url, id, mutexes: [ a ] } = await lock(t, [ "first" ], other)
        const job = start(t, "ipc-mutex", [ "status", "--watch", url ])
        await job.says(`lock "${id}" is free\n`)
        await other.stop()
        await job.says(/^ipc-mutex: [^\n]+\n/, "stderr")
        await other.start()
        await a.acquire()
        await job.says(`lock "${id}" is held\n`)
        job.signal("SIGTERM")
        const { signal, stderr } = await job.end()
        assert.equal(signal, "SIGTERM")
        // once each: first perhaps that the connection was cut, then that there is nobody to connect to
        const lines = stderr.trimEnd().split("\n")
        assert.ok(lines.every((line, index) => line.startsWith("ipc-mutex: ") && line !== lines[index - 1]), stderr)
        assert.doesNotMatch(stderr, new RegExp(other.password))
    })

    test("ends quietly when nobody reads on", async (t) => {
        const { url, mutexes: [ a ] } = await lock(t)
        const job = start(t, "ipc-mutex", [ "status", "--watch", url ])
        await job.says("is free")
        job.hangUp()
        await a.acquire()
        const { code, stderr } = await job.end()
        assert.deepEqual({ code, stderr }, { code: 0, stderr: "" })
    })
})

test("nothing is left at the server", async () => {
    // Less than the rest of the lease of a lock that was forgotten.
    await noLeftovers(server, { timeout: 18_000 })
})

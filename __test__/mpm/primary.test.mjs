// What workers see of a primary that has not loaded the package, loads it late, or goes away.
import { test } from "node:test"
import assert from "node:assert/strict"
import { readFileSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"
import { tmpdir } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import { freeze, signal } from "../support/processes.mjs"
import { startPrimary } from "./stage.mjs"

watchLeaks()

test("a worker whose primary has not loaded the package is told so, with the cure, within about 5 seconds", async (t) => {
    const primary = await startPrimary(t, { load: false })
    const worker = await primary.fork()
    const begun = performance.now()
    await assert.rejects(worker.do("open", "m", "mpm:lock"), (error) => {
        assert.equal(error.code, "ERR_PRIMARY")
        assert.match(error.message, /cluster primary.*load ipc-mutex there too.*require\("ipc-mutex"\)/)
        return true
    })
    // the rest is for a machine that does other things too
    assert.ok(performance.now() - begun < 30_000)
    await primary.do("load")
    await worker.do("open", "m", "mpm:lock")
    await worker.do("acquire", "m")
})

test("a primary that loads the package while a worker opens, or long after it was forked, serves it", async (t) => {
    const primary = await startPrimary(t, { load: false })
    const [ early, late ] = [ await primary.fork(), await primary.fork("worker.cjs") ]
    const opening = early.order("open", "m", "mpm:lock")
    const second = early.order("open", "n", "mpm:lock")
    // Has been there, in vain, before the package is loaded.
    await early.do("load")
    await primary.do("load")
    await opening
    await second
    await late.do("open", "m", "mpm:lock")
    await early.do("acquire", "m")
    assert.equal(await late.do("tryAcquire", "m"), false)
    const later = await primary.fork()
    await later.do("open", "m", "mpm:lock")
    assert.equal(await later.do("tryAcquire", "m"), false)
})

test("time in which the machine stands still does not count as the primary's silence", async (t) => {
    const primary = await startPrimary(t, { load: false })
    const worker = await primary.fork()
    const opening = worker.order("open", "m", "mpm:lock")
    // Has been there, in vain, before everything stops.
    await worker.do("load")
    const all = await freeze(primary.pid)
    await sleep(6000)
    for (const pid of all)
        signal(pid, "SIGCONT")
    await primary.do("load")
    await opening
})

for (const [ how, end ] of [
    [ "primary that is killed", ({ primary }) => signal(primary.pid, "SIGKILL") ],
    [ "channel that the worker cuts", ({ worker }) => worker.order("disconnect").catch(() => {}) ]
])
    test(`a ${how} is a loss to the holder and an ERR_PRIMARY to everybody who waits or asks later`, async (t) => {
        const folder = mkdtempSync(join(tmpdir(), "mpm-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const file = join(folder, "outcome")
        const primary = await startPrimary(t)
        const worker = await primary.fork()
        await worker.do("open", "m", "mpm:lock")
        await worker.do("open", "n", "mpm:lock")
        await worker.do("acquire", "m")
        await worker.do("outlive", file, "m", "n")
        end({ primary, worker })
        const outcome = await waitFor(() => {
            const lines = readFileSync(file, "utf8").trim().split("\n").map(JSON.parse)
            return lines.length === 5 && lines
        }, { what: "what the worker saw" })
        assert.deepEqual(Object.fromEntries(outcome), {
            lost: "ERR_LOCK_LOST", waiting: "ERR_PRIMARY", release: "ERR_LOCK_LOST", acquire: "ERR_PRIMARY", open: "ERR_PRIMARY"
        })
    })

import { after, test } from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { startChild } from "../support/children.mjs"
import { suite } from "./suite.mjs"
import { ids } from "./special.mjs"
import { LockManager, manager } from "./world.mjs"

if (process.platform === "linux") {
    watchLeaks()
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
    after(() => rmSync(folder, { recursive: true }))
    const world = { name: "lpm", url: (id) => `lpm:${id}?dir=${encodeURIComponent(folder)}` }
    suite(world)

    test("query() shows the locks of other processes by their names, whatever these are, and the longest one", async (t) => {
        const names = [ ...ids.map(([ name ]) => name), "n".repeat(3900) ]
        const child = await startChild(t, `data:text/javascript,${encodeURIComponent(`
            import { LockManager } from ${JSON.stringify(new URL("../../index.mjs", import.meta.url).href)}
            const locks = new LockManager(${JSON.stringify(world.url(""))}, { label: "other" })
            process.on("message", async (names) => {
                for (const name of names)
                    await locks.lock(name)
                process.send("held")
            })`)}`)
        await child.send(names)
        await child.message("held")
        const locks = manager(t, world)
        assert.equal(await locks.tryLock("ä"), null)
        const waiting = locks.lock(names.at(-1))
        const { held, pending } = await locks.query()
        const seen = held.filter(({ pid }) => pid === child.pid)
        assert.deepEqual(seen.map(({ name }) => name).sort(), [ ...names ].sort())
        assert.ok(seen.every(({ mode, label, token }) => mode === "exclusive" && label === "other" && token > 0n))
        assert.deepEqual(pending.map(({ name, pid }) => [ name, pid ]), [ [ names.at(-1), process.pid ] ])
        await child.kill("SIGKILL")
        await (await waiting).release()
        // The dead process has left nothing.
        assert.deepEqual(await locks.query(), { held: [], pending: [] })
    })

    test("a deleted folder ends the holds of a manager, which then goes on with a new table", async (t) => {
        const own = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
        t.after(() => rmSync(own, { recursive: true, force: true }))
        const locks = new LockManager(`lpm:?dir=${encodeURIComponent(own)}`)
        t.after(() => locks.close())
        const lock = await locks.lock("a b")
        const told = new Promise((resolve) => { locks.once("lost", (error, { name }) => resolve([ error.code, name ])) })
        const alive = setInterval(() => {}, 1000)
        t.after(() => clearInterval(alive))
        rmSync(join(own, "table-2"))
        assert.deepEqual(await told, [ "ERR_LOCK_LOST", "a b" ])
        assert.ok(lock.signal.aborted)
        const next = await locks.lock("a b")
        assert.ok(next.token > lock.token)
        assert.deepEqual((await locks.query()).held.map(({ name }) => name), [ "a b" ])
        await next.release()
    })
}

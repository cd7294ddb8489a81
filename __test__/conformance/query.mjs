// query(): who holds the lock and who waits for it, in order.
import { test } from "node:test"
import assert from "node:assert/strict"
import os from "node:os"
import { freshId, opened, waiting } from "./world.mjs"

export function query (world) {
    const knows = (name) => !(world.unknown ?? []).includes(name)

    test("query shows holders and waiters in order, with what is known of them", async (t) => {
        const before = Date.now() - 2000
        const url = world.url(freshId())
        const one = await opened(t, url, { label: "first" }), other = await opened(t, url, { label: "second" })
        assert.deepEqual(await one.query(), { held: [], pending: [] })
        const lock = await one.lock()
        const writer = other.lock()
        await waiting(one, 1)
        const reader = one.lock({ shared: true })
        await waiting(one, 2)
        const { held, pending } = await other.query()
        assert.equal(held.length, 1)
        assert.deepEqual([ held[0].mode, pending[0].mode, pending[1].mode ], [ "exclusive", "exclusive", "shared" ])
        if (knows("token"))
            assert.equal(held[0].token, lock.token)
        for (const info of [ held[0], ...pending ]) {
            if (knows("host"))
                assert.equal(info.host, os.hostname())
            if (knows("pid"))
                assert.equal(info.pid, process.pid)
            if (knows("thread"))
                assert.equal(info.thread, 0)
            if (knows("since")) {
                assert.ok(info.since instanceof Date)
                assert.ok(+info.since >= before && +info.since <= Date.now() + 2000, String(info.since))
            }
        }
        if (knows("label"))
            assert.deepEqual([ held[0].label, pending[0].label, pending[1].label ], [ "first", "second", "first" ])
        await lock.release()
        await (await writer).release()
        await (await reader).release()
        assert.deepEqual(await one.query(), { held: [], pending: [] })
    })

    test("query shows every shared holder", async (t) => {
        const url = world.url(freshId())
        const one = await opened(t, url), other = await opened(t, url)
        const locks = [ await one.lock({ shared: true }), await other.lock({ shared: true }) ]
        const { held, pending } = await one.query()
        assert.deepEqual([ held.map(({ mode }) => mode), pending ], [ [ "shared", "shared" ], [] ])
        for (const lock of locks)
            await lock.release()
    })

    test("query knows a hold of plain acquire too", async (t) => {
        const one = await opened(t, world.url(freshId()))
        await one.acquire()
        const { held } = await one.query()
        assert.deepEqual(held.map(({ mode }) => mode), [ "exclusive" ])
        await one.release()
    })
}

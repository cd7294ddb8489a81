// Timeouts and signals: a waiter that gave up is gone everywhere and never gets the lock.
import { test } from "node:test"
import assert from "node:assert/strict"
import { freshId, idle, opened, rejection, takeOver, two, waiting, watch } from "./world.mjs"

export function cancel (world) {
    test("a timeout rejects with ERR_TIMEOUT, and the waiter is gone", async (t) => {
        const [ one, other ] = await two(t, world)
        await one.acquire()
        for (const call of [ "acquire", "lock" ]) {
            const error = await rejection(other[call]({ timeout: 30 }))
            assert.equal(error.code, "ERR_TIMEOUT")
            assert.match(error.message, new RegExp(`"${one.id}".*30 ms`))
        }
        await waiting(one, 0)
        await one.release()
        // nobody got it on behalf of those who gave up
        await takeOver(one)
        await one.release()
    })

    test("an abort rejects with the signal's reason, and those behind move up", async (t) => {
        const url = world.url(freshId())
        const [ one, two, three ] = await Promise.all([ opened(t, url), opened(t, url), opened(t, url) ])
        await one.acquire()
        const controller = new AbortController()
        const gone = two.acquire({ signal: controller.signal })
        await waiting(one, 1)
        const next = watch(three.acquire())
        await waiting(one, 2)
        const reason = new Error("changed my mind")
        controller.abort(reason)
        assert.equal(await rejection(gone), reason)
        await waiting(one, 1)
        assert.equal(next.settled, false)
        await one.release()
        await next.promise
        await three.release()
    })

    test("an aborted signal rejects at once and leaves no trace", async (t) => {
        const [ one ] = await two(t, world)
        const reason = new Error("never mind")
        assert.equal(await rejection(one.lock({ signal: AbortSignal.abort(reason) })), reason)
        assert.equal((await rejection(one.acquire({ signal: AbortSignal.abort() }))).name, "AbortError")
        assert.deepEqual(await one.query(), { held: [], pending: [] })
    })

    test("a signal that aborts after the grant changes nothing", async (t) => {
        const [ one, other ] = await two(t, world)
        const controller = new AbortController()
        const lock = await one.lock({ signal: controller.signal, timeout: 60_000 })
        controller.abort()
        assert.equal(lock.signal.aborted, false)
        assert.equal(await other.tryLock(), null)
        await lock.release()
    })

    test("cancelling an exclusive waiter lets the shared ones behind it in", async (t) => {
        const [ one, other ] = await two(t, world)
        const reader = await one.lock({ shared: true })
        const controller = new AbortController()
        const writer = rejection(other.lock({ signal: controller.signal }))
        await waiting(one, 1)
        const second = other.lock({ shared: true })
        await waiting(one, 2)
        controller.abort()
        await writer
        await (await second).release()
        await reader.release()
    })

    test("cancels that race with grants lose no lock and leak none", async (t) => {
        const url = world.url(freshId())
        const [ one, other ] = await Promise.all([ opened(t, url), opened(t, url) ])
        const rounds = world.model === "rpm" ? 60 : 300
        for (let round = 0; round < rounds; round++) {
            await one.acquire()
            const controller = new AbortController()
            const attempt = other.lock({ signal: controller.signal }).then((lock) => lock.release(), (error) => {
                assert.equal(error.name, "AbortError")
            })
            if (round % 3 === 0)
                await waiting(one, 1)
            const release = one.release()
            if (round % 2 === 0)
                controller.abort()
            else
                setImmediate(() => controller.abort())
            await Promise.all([ release, attempt ])
        }
        await takeOver(one)
        await one.release()
        await idle(one)
    })

    test("a thousand waiters that give up leave a working lock", async (t) => {
        const [ one, other ] = await two(t, world)
        await one.acquire()
        const controller = new AbortController()
        const waiters = Array.from({ length: 1000 }, () => rejection(other.acquire({ signal: controller.signal })))
        await waiting(one, 1000)
        controller.abort()
        await Promise.all(waiters)
        await waiting(one, 0)
        await one.release()
        await other.acquire()
        await other.release()
    })
}

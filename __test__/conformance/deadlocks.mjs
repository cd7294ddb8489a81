// Deadlock detection, on request.
import { test } from "node:test"
import assert from "node:assert/strict"
import { EventEmitter, once } from "node:events"
import { freshId, opened, rejection, waiting, watch } from "./world.mjs"

export function deadlocks (world) {
    const open = (t, url, options = { detectDeadlocks: true }) => opened(t, url, options)

    /** A flow of its own, which releases what `mutex` holds once somebody has waited for it for a while. */
    const whenWaited = async (mutex) => {
        await waiting(mutex, 1)
        for (let count = 0; count < 5; count++)
            await new Promise(setImmediate)
        await mutex.release()
    }

    test("acquiring again what the same flow holds rejects with ERR_DEADLOCK, naming the id and both places", async (t) => {
        const mutex = await open(t, world.url(freshId()))
        await mutex.acquire()
        const error = await rejection(mutex.acquire())
        assert.equal(error.code, "ERR_DEADLOCK")
        assert.match(error.message, new RegExp(`"${mutex.id}"`))
        assert.equal(error.message.match(/deadlocks\.mjs:\d+/g)?.length, 2, error.message)
        await mutex.release()
        await mutex.acquire()
        await mutex.release()
    })

    test("withLock inside withLock is found, also through another object of the same id", async (t) => {
        const url = world.url(freshId())
        const mutex = await open(t, url), other = await open(t, url)
        const error = await rejection(mutex.withLock(() => other.withLock(() => 1)))
        assert.equal(error.code, "ERR_DEADLOCK")
    })

    test("shared inside exclusive and exclusive inside shared are found", async (t) => {
        const mutex = await open(t, world.url(freshId()))
        for (const [ outer, inner ] of [ [ false, true ], [ true, false ] ]) {
            const lock = await mutex.lock({ shared: outer })
            assert.equal((await rejection(mutex.lock({ shared: inner }))).code, "ERR_DEADLOCK")
            await lock.release()
        }
    })

    test("other flows, other locks and calls that can give up are left alone", async (t) => {
        const mutex = await open(t, world.url(freshId())), other = await open(t, world.url(freshId()))
        const flow = async () => {
            const lock = await mutex.lock()
            await other.withLock(() => 1)
            await lock.release()
        }
        await Promise.all([ flow(), flow(), flow() ])
        const lock = await mutex.lock()
        assert.equal((await rejection(mutex.lock({ timeout: 5 }))).code, "ERR_TIMEOUT")
        assert.equal(await mutex.tryLock(), null)
        await lock.release()
    })

    test("a flow that only started another one which holds may wait for it", async (t) => {
        const mutex = await open(t, world.url(freshId())), gate = await open(t, world.url(freshId()))
        await gate.acquire()
        const task = (async () => {
            const lock = await mutex.lock()
            await gate.lock({ timeout: 60_000 }).then((inner) => inner.release())
            await lock.release()
        })()
        await waiting(gate, 1)
        const mine = watch(mutex.acquire())
        await waiting(mutex, 1)
        assert.equal(mine.settled, false)
        await gate.release()
        await task
        await mine.promise
        await mutex.release()
    })

    test("calls of timers, and calls that nobody waits for, wait their turn", async (t) => {
        const mutex = await open(t, world.url(freshId()))
        let timer, forgotten, listener
        const emitter = new EventEmitter().on("changed", () => { listener = mutex.withLock(() => "listener") })
        await mutex.withLock(async () => {
            timer = new Promise((resolve) => setTimeout(() => resolve(mutex.withLock(() => "timer")), 1))
            forgotten = mutex.withLock(() => "forgotten")
            forgotten.catch(() => {})
            emitter.emit("changed")
            await new Promise((resolve) => setTimeout(resolve, 20))
        })
        assert.deepEqual(await Promise.all([ timer, forgotten, listener ]), [ "timer", "forgotten", "listener" ])
    })

    test("a task that the holder has started, and which asks after the holder has finished, is let in", async (t) => {
        const mutex = await open(t, world.url(freshId()))
        const gate = new EventEmitter()
        let task
        await mutex.withLock(() => {
            task = once(gate, "open").then(() => mutex.withLock(() => "let in"))
        })
        const lock = await mutex.lock()
        gate.emit("open")
        await waiting(mutex, 1)
        await lock.release()
        assert.equal(await task, "let in")
    })

    test("a handle that a timer releases lets its own flow in again", async (t) => {
        const mutex = await open(t, world.url(freshId()))
        const lock = await mutex.lock()
        setTimeout(() => lock.release(), 20)
        await (await mutex.lock()).release()
    })

    test("a hold is forgotten in every way in which it ends", async (t) => {
        const mutex = await open(t, world.url(freshId()))
        const other = await opened(t, world.url(mutex.id))
        /** Asks again, in the flow that had the lock. */
        const again = async (name, released) => {
            await other.acquire()
            await assert.doesNotReject(mutex.acquire(), name)
            await released
            await mutex.release()
        }
        const ends = {
            release: async (rest) => {
                await mutex.acquire()
                await mutex.release()
                await rest()
            },
            disposal: async (rest) => {
                const lock = await mutex.lock()
                await lock[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]()
                await rest()
            },
            close: async (rest) => {
                await mutex.acquire()
                await mutex.close()
                await mutex.open()
                await rest()
            }
        }
        for (const [ name, end ] of Object.entries(ends)) {
            const released = whenWaited(other)
            await end(() => again(name, released))
        }
    })

    test("one id at two coordinators is two locks", async (t) => {
        const id = freshId()
        const mutex = await open(t, world.url(id)), other = await open(t, `${world.model === "spm" ? "mpm" : "spm"}:${id}`)
        const blocker = await opened(t, `${world.model === "spm" ? "mpm" : "spm"}:${id}`)
        await blocker.acquire()
        const released = whenWaited(blocker)
        await mutex.acquire()
        await other.acquire()
        await released
        await other.release()
        await mutex.release()
    })

    test("a call that nobody waits for is not judged, although its flow waits for something else", async (t) => {
        const mutex = await open(t, world.url(freshId())), gate = await opened(t, world.url(freshId()))
        await gate.acquire()
        const released = whenWaited(gate)
        let forgotten
        await mutex.withLock(async () => {
            forgotten = mutex.withLock(() => "let in")
            forgotten.catch(() => {})
            await gate.acquire()
        })
        await released
        assert.equal(await forgotten, "let in")
        await gate.release()
    })

    test("without the option a second acquire just waits", async (t) => {
        const mutex = await open(t, world.url(freshId()), {})
        await mutex.acquire()
        const second = watch(mutex.acquire())
        await waiting(mutex, 1)
        assert.equal(second.settled, false)
        await mutex.release()
        await second.promise
        await mutex.release()
    })
}

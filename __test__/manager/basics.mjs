// lock, tryLock, withLock, close and events of a manager.
import { test } from "node:test"
import assert from "node:assert/strict"
import { inspect } from "node:util"
import { ids } from "./special.mjs"
import { LockManager, fresh, manager, opened, rejection, watch } from "./world.mjs"

const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")

export function basics (world) {
    test("lock gives a handle with name, id, mode, token and signal", async (t) => {
        const locks = manager(t, world)
        const name = `${fresh()} ä`
        const lock = await locks.lock(name)
        assert.equal(lock.name, name)
        assert.equal(lock.id, name.replace(" ä", "%20%C3%A4"))
        assert.equal(lock.mode, "exclusive")
        assert.equal(typeof lock.token, "bigint")
        assert.equal(lock.signal.aborted, false)
        assert.match(inspect(lock), /held/)
        await lock.release()
        const later = await locks.lock(name, { shared: true })
        assert.equal(later.mode, "shared")
        await later.release()
        assert.match(inspect(later), /released/)
    })

    test("each name is a lock of its own, for all managers of the coordinator", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const names = ids.map(([ name ]) => name)
        const held = await Promise.all(names.map((name) => one.lock(name)))
        assert.deepEqual(held.map(({ name }) => name), names)
        assert.deepEqual(await Promise.all(names.map((name) => other.tryLock(name))), names.map(() => null))
        await Promise.all(held.map((lock) => lock.release()))
        const again = await Promise.all(names.map((name) => other.tryLock(name)))
        assert.ok(again.every((lock) => lock !== null))
        await Promise.all(again.map((lock) => lock.release()))
    })

    test("a mutex with the name as its id is the same lock", async (t) => {
        const locks = manager(t, world)
        const id = fresh()
        const mutex = await opened(t, world.url(id))
        await mutex.acquire()
        assert.equal(await locks.tryLock(id), null)
        const waiting = watch(locks.lock(id))
        assert.equal(waiting.settled, false)
        await mutex.release()
        const lock = await waiting.promise
        assert.equal(await mutex.tryAcquire(), false)
        await lock.release()
        assert.equal(await mutex.tryAcquire(), true)
        await mutex.release()
    })

    test("requests for one name are served in their order, and exclude each other", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        let inside = 0
        const order = []
        await Promise.all(Array.from({ length: 20 }, (_, number) => locks.withLock(name, async () => {
            assert.equal(++inside, 1)
            order.push(number)
            await new Promise(setImmediate)
            inside--
        })))
        assert.deepEqual(order, [ ...order.keys() ])
    })

    test("shared locks are held together, and exclude an exclusive one", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const name = fresh()
        const readers = await Promise.all([ one.lock(name, { shared: true }), other.lock(name, { shared: true }) ])
        assert.equal(await one.tryLock(name), null)
        await Promise.all(readers.map((lock) => lock.release()))
        await (await one.lock(name)).release()
    })

    test("tokens of a name grow, also when others have been used in between", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        let last = 0n
        for (let round = 0; round < 3; round++) {
            await locks.withLock(name, ({ token }) => {
                assert.ok(token > last)
                last = token
            })
            await Promise.all(Array.from({ length: 30 }, (_, number) => locks.withLock(`${name}.${round}.${number}`, () => {})))
        }
    })

    test("timeout and signal end a wait, also one under which the manager opens", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const lock = await locks.lock(name)
        assert.equal((await rejection(locks.lock(name, { timeout: 1 }))).code, "ERR_TIMEOUT")
        const reason = new Error("no more")
        const controller = new AbortController()
        const waiting = locks.lock(name, { signal: controller.signal })
        controller.abort(reason)
        assert.equal(await rejection(waiting), reason)
        const other = manager(t, world)
        assert.equal((await rejection(other.lock(name, { timeout: 0 }))).code, "ERR_TIMEOUT")
        assert.match((await rejection(manager(t, world).lock(name, { timeout: 50 }))).message, /was not acquired in 50 ms/)
        assert.equal(await rejection(manager(t, world).lock(name, { signal: AbortSignal.abort(reason) })), reason)
        const late = new AbortController()
        const opening = manager(t, world).lock(name, { signal: late.signal })
        late.abort(reason)
        assert.equal(await rejection(opening), reason)
        await lock.release()
        await (await other.lock(name)).release()
    })

    test("calls under which the manager opens keep their order, and come before those behind the opening", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const order = []
        const take = async (who, options) => {
            const lock = await locks.lock(name, options)
            order.push(who)
            await lock.release()
        }
        const { signal } = new AbortController()
        const early = [ take(1, { timeout: 60_000 }), take(2, { signal }), take(3), take(4, { timeout: 60_000, signal }), take(5) ]
        await locks.open()
        await Promise.all([ ...early, take(6) ])
        assert.deepEqual(order, [ 1, 2, 3, 4, 5, 6 ])
    })

    test("withLock gives back what its function gives, and releases also when it throws", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const name = fresh()
        assert.equal(await one.withLock(name, async (lock) => {
            assert.equal(lock.name, name)
            assert.equal(await other.tryLock(name), null)
            return 42
        }), 42)
        assert.equal(await one.withLock(name, { shared: true }, (lock) => lock.mode), "shared")
        await assert.rejects(one.withLock(name, () => { throw new Error("now") }), /now/)
        await assert.rejects(one.withLock(name, async () => { throw new Error("later") }), /later/)
        await (await other.lock(name)).release()
    })

    test("wrong arguments reject", async (t) => {
        const locks = manager(t, world)
        for (const call of [ () => locks.lock(), () => locks.lock(5), () => locks.tryLock(null), () => locks.withLock("a"), () => locks.withLock(() => {}),
            () => locks.lock("a", { shared: 1 }), () => locks.lock("a", 5) ])
            assert.equal((await rejection(call())).code, "ERR_INVALID_ARG_TYPE", String(call))
        assert.equal((await rejection(locks.lock("a", { timeout: -1 }))).code, "ERR_OUT_OF_RANGE")
        assert.equal((await rejection(locks.tryLock("a", { timeout: 1 }))).code, "ERR_INVALID_ARG_VALUE")
        assert.equal((await rejection(locks.lock("ä".repeat(4000)))).code, "ERR_INVALID_URL")
    })

    test("detectDeadlocks finds a call that waits for its own caller, by name", async (t) => {
        const locks = manager(t, world, { detectDeadlocks: true })
        await locks.open()
        const [ a, b ] = [ fresh(), fresh() ]
        for (const again of [ () => locks.withLock(a, () => {}), () => locks.lock(a) ])
            assert.equal((await rejection(locks.withLock(a, again))).code, "ERR_DEADLOCK", String(again))
        assert.equal(await locks.withLock(a, () => locks.withLock(b, () => "another name")), "another name")
        await locks.close()
        const other = manager(t, world)
        await (await other.lock([ a, b ])).release()
    })

    test("isHeld tells of the manager's own holds, at once", async (t) => {
        const [ locks, other ] = [ manager(t, world), manager(t, world) ]
        const [ a, b ] = [ `${fresh()} ä`, fresh() ]
        assert.equal(locks.isHeld(a), false)
        const lock = await locks.lock(a)
        assert.deepEqual([ locks.isHeld(a), locks.isHeld(b), other.isHeld(a) ], [ true, false, false ])
        const waiting = other.lock(a)
        const release = lock.release()
        assert.equal(locks.isHeld(a), false)
        await release
        const theirs = await waiting
        assert.deepEqual([ locks.isHeld(a), other.isHeld(a) ], [ false, true ])
        const readers = await Promise.all([ locks.lock(b, { shared: true }), locks.lock(b, { shared: true }) ])
        await readers[0].release()
        assert.equal(locks.isHeld(b), true)
        await locks.close()
        assert.equal(locks.isHeld(b), false)
        await theirs.release()
        for (const name of [ undefined, 5, [ a ] ])
            assert.throws(() => locks.isHeld(name), { code: "ERR_INVALID_ARG_TYPE" })
    })

    test("maxPending limits the calls that wait for a name, in one manager", async (t) => {
        const [ locks, other ] = [ manager(t, world, { maxPending: 2 }), manager(t, world) ]
        const [ a, b ] = [ fresh(), fresh() ]
        const lock = await locks.lock(a)
        const waiting = [ locks.lock(a, { shared: true }), locks.lock(a, { shared: true }) ]
        assert.equal((await rejection(locks.lock(a))).code, "ERR_QUEUE_FULL")
        assert.equal((await rejection(locks.withLock(a, () => {}))).code, "ERR_QUEUE_FULL")
        assert.equal((await rejection(locks.lock([ a, b ]))).code, "ERR_QUEUE_FULL")
        assert.equal(await locks.tryLock(a), null)
        await (await locks.lock(b)).release()
        const theirs = other.lock(a, { shared: true })
        await lock.release()
        await Promise.all([ ...waiting, theirs ].map(async (one) => (await one).release()))
        await (await locks.lock(a)).release()
        assert.throws(() => new LockManager(world.url(""), { maxPending: "1" }), { code: "ERR_INVALID_ARG_TYPE" })
        for (const maxPending of [ 0, -1, NaN ])
            assert.throws(() => new LockManager(world.url(""), { maxPending }), { code: "ERR_OUT_OF_RANGE" })
    })

    test("close releases all, rejects what waits, and is the end", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const [ a, b ] = [ fresh(), fresh() ]
        const lock = await one.lock(a)
        const { signal } = lock
        const theirs = await other.lock(b)
        const waiting = rejection(one.lock(b))
        const closing = one.close()
        assert.equal(one.close(), closing)
        assert.equal((await waiting).code, "ERR_CLOSED")
        await closing
        assert.equal(signal.aborted, true)
        assert.equal(signal.reason.code, "ERR_CLOSED")
        await lock.release()
        await (await other.lock(a)).release()
        await theirs.release()
        for (const call of [ () => one.lock(a), () => one.tryLock(a), () => one.withLock(a, () => {}), () => one.open() ])
            assert.equal((await rejection(call())).code, "ERR_CLOSED", String(call))
    })

    test("close in the step of the first call rejects that call", async () => {
        const locks = new LockManager(world.url(""))
        const first = rejection(locks.lock(fresh()))
        await locks[asyncDispose]()
        assert.equal((await first).code, "ERR_CLOSED")
    })

    test("events tell of names, wherever the listener came in", async (t) => {
        const locks = manager(t, world)
        const [ before, name ] = [ fresh(), `${fresh()}/x` ]
        const first = await locks.lock(before)
        const told = []
        for (const event of [ "acquire", "release" ])
            locks.on(event, (hold) => told.push([ event, hold ]))
        await first.release()
        const lock = await locks.lock(name)
        await lock.release()
        const { id, token } = lock
        await new Promise(setImmediate)
        assert.deepEqual(told, [
            [ "release", { id: before, name: before, mode: "exclusive", token: first.token } ],
            [ "acquire", { id, name, mode: "exclusive", token } ], [ "release", { id, name, mode: "exclusive", token } ]
        ])
    })

    test("thousands of names that are used once leave nothing, and one that is held meanwhile stays held", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const prefix = fresh()
        // Once it has been one that nobody uses.
        await (await one.lock(prefix)).release()
        const held = await one.lock(prefix)
        const rounds = world.name === "spm" || world.name === "mpm" ? 50 : 8
        for (let round = 0; round < rounds; round++)
            await Promise.all(Array.from({ length: 100 }, (_, number) => one.withLock(`${prefix}.${round}.${number}`, () => {})))
        assert.equal(await other.tryLock(prefix), null)
        await (await other.lock(`${prefix}.0.0`)).release()
        await held.release()
        await (await other.lock(prefix)).release()
    })
}

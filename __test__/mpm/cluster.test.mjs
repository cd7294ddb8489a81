// A primary and its workers: who reaches the table, and what is freed when.
import { test, describe } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import { signal } from "../support/processes.mjs"
import { startPrimary } from "./stage.mjs"

watchLeaks()

/** Resolves when `number` wait for the lock of `who`'s mutex "m". */
const waiting = (who, number) => waitFor(async () => (await who.do("query", "m")).pending.length === number, { what: `${number} to wait` })

for (const serialization of [ "json", "advanced" ])
    describe(`over a channel with ${serialization} serialization`, () => {
        test("workers from ES modules and CommonJS programs, and the primary, exclude each other, first come first served, unseen", async (t) => {
            const primary = await startPrimary(t, { serialization })
            const workers = [ await primary.fork(), await primary.fork("worker.cjs") ]
            for (const each of [ primary, ...workers ])
                await each.do("open", "m", "mpm:lock")
            const tokens = [ await workers[0].do("lock", "m", "hold") ]
            const order = []
            for (const [ place, each ] of [ workers[1], primary, workers[0] ].entries()) {
                each.order("lock", "m", "next").then((token) => order.push(place) && tokens.push(token))
                await waiting(primary, place + 1)
            }
            assert.deepEqual(order, [])
            await workers[0].do("unlock", "hold")
            for (const [ place, each ] of [ workers[1], primary, workers[0] ].entries()) {
                await waitFor(() => order.length === place + 1, { what: "the next grant" })
                await each.do("unlock", "next")
            }
            assert.deepEqual(order, [ 0, 1, 2 ])
            assert.deepEqual(await primary.do("strangers"), [], "messages that no user has sent")
            assert.deepEqual([ ...tokens ].sort((one, other) => BigInt(one) < BigInt(other) ? -1 : 1), tokens)
        })

        test("query() names process, thread, label and token of each, from anywhere", async (t) => {
            const primary = await startPrimary(t, { serialization })
            const worker = await primary.fork()
            await worker.do("open", "m", "mpm:lock", { label: "ünï\ud800,$\"code" })
            await primary.do("open", "m", "mpm:lock")
            const token = await worker.do("lock", "m", "hold")
            primary.order("acquire", "m")
            await waiting(worker, 1)
            const { held: [ holder ], pending: [ waiter ] } = await worker.do("query", "m")
            const { pid, thread, label, mode } = holder
            assert.deepEqual([ pid, thread, label, holder.token, mode ], [ worker.pid, 0, "ünï\ufffd,$\"code", token, "exclusive" ])
            assert.deepEqual([ waiter.pid, waiter.thread, waiter.label ], [ primary.pid, 0, undefined ])
            assert.deepEqual(await primary.do("query", "m"), await worker.do("query", "m"))
        })

        test("a worker that is killed frees at once what it held and what it waited for", async (t) => {
            const primary = await startPrimary(t, { serialization })
            const [ holder, other, third ] = [ await primary.fork(), await primary.fork(), await primary.fork() ]
            for (const each of [ holder, other, third ])
                await each.do("open", "m", "mpm:lock")
            await holder.do("acquire", "m")
            other.order("acquire", "m")
            await waiting(third, 1)
            const granted = third.order("acquire", "m")
            await waiting(third, 2)
            signal(other.pid, "SIGKILL")
            await waiting(third, 1)
            signal(holder.pid, "SIGKILL")
            await granted
            assert.deepEqual((await third.do("query", "m")).held.map(({ pid }) => pid), [ third.pid ])
        })
    })

test("a worker that exits, or cuts its channel, frees what it held", async (t) => {
    const primary = await startPrimary(t)
    await primary.do("open", "m", "mpm:lock")
    for (const end of [ "exit", "disconnect" ]) {
        const worker = await primary.fork()
        await worker.do("open", "m", "mpm:lock")
        await worker.do("acquire", "m")
        const granted = primary.order("acquire", "m")
        await waiting(primary, 1)
        worker.order(end).catch(() => {})
        await granted
        await primary.do("release", "m")
    }
})

test("a release of what the worker does not hold is refused, and changes nothing", async (t) => {
    const primary = await startPrimary(t)
    const [ holder, thief ] = [ await primary.fork(), await primary.fork() ]
    await holder.do("open", "m", "mpm:lock")
    await holder.do("lock", "m", "hold")
    await thief.do("open", "m", "mpm:lock")
    const waits = thief.order("acquire", "m")
    await waiting(holder, 1)
    const nonsense = [ "", "1", "1,1,$,$,$,$", "9,4,2", "1,99,1", "-1,x,,", "7,2,,,", "7,6,1,1", "7,3,1", "7,5,1,$" ]
    // In its own name and in a further one, for all numbers that the requests of both can have so far.
    const releases = Array.from({ length: 12 }, (_, request) => [ `1,4,${request}`, `7,4,${request}` ]).flat()
    for (const text of [ "7,0,2", ...releases, ...nonsense ])
        await thief.do("raw", { cmd: `NODE_IPC_MUTEX${text}` })
    const refusals = await waitFor(async () => {
        const heard = (await thief.do("frames")).flatMap(({ cmd }) => cmd?.match(/(?<=^NODE_IPC_MUTEX\d(,.*)?),7,\d+/g) ?? [])
        return heard.length >= releases.length && heard
    }, { what: "the refusals" })
    assert.ok(refusals.length >= releases.length)
    const { held, pending } = await holder.do("query", "m")
    assert.deepEqual([ held.map(({ pid }) => pid), pending.map(({ pid }) => pid) ], [ [ holder.pid ], [ thief.pid ] ])
    await holder.do("unlock", "hold")
    await waits
})

test("a cancelled wait is gone from the primary, those behind move up, and a grant that crosses the cancel is given back", async (t) => {
    const primary = await startPrimary(t)
    const worker = await primary.fork()
    for (const each of [ primary, worker ])
        await each.do("open", "m", "mpm:lock")
    for (let round = 0; round < 200; round++) {
        await primary.do("lock", "m", "hold")
        // Ends about when the lock is handed over, before or after.
        const cancelled = worker.order("lock", "m", "late", { timeout: round % 3 }).then(() => true, (error) => assert.equal(error.code, "ERR_TIMEOUT"))
        await primary.do("unlock", "hold")
        if (await cancelled)
            await worker.do("unlock", "late")
        assert.equal(await primary.do("tryAcquire", "m"), true)
        await primary.do("release", "m")
    }
    assert.deepEqual(await worker.do("query", "m"), { held: [], pending: [] })
})

test("any number of ids and of objects of one id in one worker are locks and contenders of their own", async (t) => {
    const primary = await startPrimary(t)
    const worker = await primary.fork()
    for (const [ name, id ] of [ [ "a1", "a" ], [ "a2", "a" ], [ "b1", "b" ] ])
        await worker.do("open", name, `mpm:${id}`)
    await worker.do("acquire", "a1")
    await worker.do("acquire", "b1")
    assert.equal(await worker.do("tryAcquire", "a2"), false)
    await assert.rejects(worker.do("acquire", "a2", { timeout: 1 }), { code: "ERR_TIMEOUT" })
    const second = worker.order("acquire", "a2")
    await worker.do("close", "a1")
    await second
})

test("300 open/close cycles leave no listener behind, neither in the worker nor in the primary", async (t) => {
    const primary = await startPrimary(t)
    const worker = await primary.fork()
    await worker.do("open", "m", "mpm:other")
    await primary.do("load")
    const before = await primary.do("listeners", worker.number)
    assert.equal(await worker.do("cycle", "mpm:lock", 300), 0)
    assert.equal(await primary.do("cycle", "mpm:lock", 300), 0)
    assert.deepEqual(await primary.do("listeners", worker.number), before)
})

test("a busy primary and a busy worker delay grants, and lose none", async (t) => {
    const primary = await startPrimary(t)
    const worker = await primary.fork()
    for (const each of [ primary, worker ])
        await each.do("open", "m", "mpm:lock")
    await worker.do("acquire", "m")
    const granted = primary.order("acquire", "m")
    await waiting(worker, 1)
    const blocked = primary.order("block", 300)
    await worker.do("release", "m")
    await granted
    await blocked
    await primary.do("release", "m")
    await worker.do("acquire", "m")
})

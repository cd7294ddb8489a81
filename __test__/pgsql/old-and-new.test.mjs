// Processes of 1.1.2 and ours contend for one lock: never both inside, both make progress.
import { test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { History, check } from "../support/history.mjs"
import { legacy } from "../support/legacy.mjs"
import { freshId, opened, watch } from "../conformance/world.mjs"
import { noLeftovers, postgres, waitFor } from "./patient.mjs"

watchLeaks()

/** Resolves when so many wait for the lock, as anybody can see. */
async function waiting (mutex, number) {
    await waitFor(async () => (await mutex.query()).pending.length === number, { what: `${number} waiting for ${mutex.id}` })
}

test("each waits for the other, exclusive and shared", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const [ old, mutex ] = [ legacy(server), await opened(t, server.url(id)) ]
    await old.acquire(id)
    assert.equal(await mutex.tryAcquire(), false)
    assert.equal(await mutex.tryAcquire({ shared: true }), false)
    const { held } = await mutex.query()
    assert.deepEqual(held.map(({ mode, host, pid, label, token }) => ({ mode, host, pid, label, token })),
        [ { mode: "exclusive", host: undefined, pid: undefined, label: undefined, token: undefined } ])
    const ours = watch(mutex.lock())
    await waiting(mutex, 1)
    await old.release(id)
    const lock = await ours.promise
    assert.equal(await old.tryAcquire(id), false)
    await lock.release()
    for (const shared of [ false, true ]) {
        const inside = await mutex.lock({ shared })
        const theirs = watch(old.acquire(id))
        await waiting(mutex, 1)
        assert.equal(theirs.settled, false)
        await inside.release()
        await theirs.promise
        await old.release(id)
    }
    await old.close()
    await mutex.close()
    await noLeftovers(server)
})

test("names that 1.x took, such as my_lock, mean the same lock, also in a database of their own", async (t) => {
    const server = await postgres(t, { password: true, database: "locks" })
    for (const id of [ "my_lock", "foo", "leader-election", "a%2Fb" ]) {
        const [ old, mutex ] = [ legacy(server), await opened(t, server.url(id)) ]
        await mutex.acquire()
        assert.equal(await old.tryAcquire(id), false, id)
        await mutex.release()
        assert.equal(await old.tryAcquire(id), true, id)
        await old.close()
    }
})

test("six of each kind, in turns: no overlap, and everybody gets through in order", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const history = new History()
    const rounds = 25
    const inside = () => new Promise((resolve) => setImmediate(resolve))
    const contender = async (name, acquire, release) => {
        for (let round = 0; round < rounds; round++) {
            history.ask(id, name)
            await acquire()
            history.grant(id, name)
            await inside()
            history.release(id, name)
            await release()
        }
    }
    // Nobody begins before all wait: connecting takes some of them longer than many rounds.
    const start = await opened(t, server.url(id, { connect_timeout: 31 }))
    await start.acquire()
    const flows = []
    for (let number = 0; number < 6; number++) {
        const old = legacy(server)
        flows.push(contender(`old-${number}`, () => old.acquire(id), () => old.release(id)).finally(() => old.close()))
        // Different options make different clients, as different processes are.
        const mutex = await opened(t, server.url(id, { connect_timeout: 32 + number }))
        flows.push(contender(`new-${number}`, () => mutex.acquire(), () => mutex.release()))
    }
    await waiting(start, 12)
    await start.release()
    await Promise.all(flows)
    const seen = check(history, { order: "none" })
    assert.equal(seen.grants, 12 * rounds)
    // Everybody waits in the server's one queue, so everybody has had a turn before anybody has a second one.
    const grants = [ ...history.events() ].filter((event) => event.kind === "grant").sort((a, b) => Number(a.at - b.at)).map((event) => event.owner)
    assert.equal(new Set(grants.slice(0, 12)).size, 12, grants.slice(0, 12).join(" "))
})

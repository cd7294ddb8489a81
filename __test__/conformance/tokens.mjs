// Fencing tokens: of two grants of one lock, the later one has the larger token.
import { test } from "node:test"
import assert from "node:assert/strict"
import { freshId, opened, two, waiting } from "./world.mjs"

export function tokens (world) {
    test("tokens grow from grant to grant, over objects, modes, closings and quiet times", async (t) => {
        const url = world.url(freshId())
        let last = 0n
        for (let round = 0; round < 4; round++) {
            const one = await opened(t, url), other = await opened(t, url)
            for (const options of [ {}, { shared: true }, {} ]) {
                for (const mutex of [ one, other, one ]) {
                    const lock = await mutex.lock(options)
                    assert.ok(lock.token > last, `${lock.token} after ${last}`)
                    last = lock.token
                    await lock.release()
                }
                // a hold without a token in between changes nothing
                await one.acquire()
                await one.release()
            }
            await one.close()
            await other.close()
        }
    })

    test("shared holds have a token each, and a later exclusive one a larger", async (t) => {
        const [ one, other ] = await two(t, world)
        const first = await one.lock({ shared: true }), second = await other.lock({ shared: true })
        const third = one.lock()
        await waiting(one, 1)
        assert.ok(second.token > first.token)
        await first.release()
        await second.release()
        const lock = await third
        assert.ok(lock.token > second.token)
        await lock.release()
    })

    test("handing over gives larger tokens as well", async (t) => {
        const [ one, other ] = await two(t, world)
        let last = 0n
        const run = async (mutex) => {
            for (let round = 0; round < 20; round++)
                await mutex.withLock((lock) => {
                    assert.ok(lock.token > last)
                    last = lock.token
                })
        }
        await Promise.all([ run(one), run(other) ])
    })
}

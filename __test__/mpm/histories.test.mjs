// What all holders of a cluster saw under contention, judged afterwards.
import { test } from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { tmpdir } from "node:os"
import { watchLeaks } from "../support/leaks.mjs"
import { signal, state } from "../support/processes.mjs"
import { History, check, now } from "../support/history.mjs"
import { waitFor } from "../support/waiting.mjs"
import { startPrimary } from "./stage.mjs"

watchLeaks()

/**
 * How long a request may be on its way to the queue, in milliseconds, on a machine that does other things too. Besides, the thread that asks
 * and the one that has the queue may each stand still on the way.
 */
const SLACK = 3000

test("200,000 grants to primary, workers and threads for sixteen locks: no overlap, no lost grant, order and tokens kept", async (t) => {
    const primary = await startPrimary(t, { serialization: "advanced" })
    const workers = [ await primary.fork(), await primary.fork(), await primary.fork() ]
    await workers[0].do("load")
    const all = [ primary, ...workers, await workers[0].thread("outer"), await primary.thread("inner") ]
    const ids = Array.from({ length: 16 }, (_, number) => `l${number}`)
    // One in eight requests gives up soon.
    const flows = 40, rounds = Math.ceil(200_000 * 8 / 7 / all.length / flows)
    const histories = await Promise.all(all.map((each, number) => each.do("contend", { name: number, ids, flows, rounds })))
    const slack = SLACK + 2 * Math.max(...histories.map(({ delay }) => delay))
    const seen = check(histories.map((history) => History.from(history)), { slack, tokens: true })
    assert.equal(seen.asks, all.length * flows * rounds)
    assert.equal(seen.grants + seen.cancelled, seen.asks)
    assert.ok(seen.grants >= 200_000 && seen.tokens > 0 && seen.readers > 1, JSON.stringify({ ...seen }))
    await primary.do("open", "m", `mpm:${ids[0]}`)
    assert.deepEqual(await primary.do("query", "m"), { held: [], pending: [] })
})

test("workers that are killed while they hold and wait lose nothing of the others'", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "mpm-"))
    t.after(() => rmSync(folder, { recursive: true }))
    const primary = await startPrimary(t)
    const ids = [ "a", "b" ], flows = 12
    const files = []
    const contend = (each, name, rounds) => {
        files.push(join(folder, name))
        return each.order("contend", { name, ids, flows, rounds, file: files.at(-1) })
    }
    const [ lasting, dying ] = [ await primary.fork(), await primary.fork() ]
    const ends = [ contend(primary, "primary", 400), contend(lasting, "lasting", 400) ]
    const killed = new History()
    let victim = dying
    for (let death = 0; death < 6; death++) {
        const name = `victim${death}`
        contend(victim, name, 1e6)
        await waitFor(() => statSync(files.at(-1)).size > 20_000 * (death + 1), { what: "the victim to contend", every: 3 })
        // Stopped first, so that it cannot do anything after the moment that is recorded.
        signal(victim.pid, "SIGSTOP")
        await waitFor(() => state(victim.pid) === "T", { what: "the victim to stop" })
        const at = now()
        signal(victim.pid, "SIGKILL")
        for (let flow = 0; flow < flows; flow++)
            killed.gone(`${name}/${flow}`, { at })
        await victim.ended()
        victim = await primary.fork()
    }
    await Promise.all(ends)
    const seen = check([ ...files.map((file) => History.read(file)), killed ], { order: "none", tokens: true })
    assert.ok(seen.gone > 0 && seen.grants > 1000)
    await lasting.do("open", "m", "mpm:a")
    assert.deepEqual(await lasting.do("query", "m"), { held: [], pending: [] })
})

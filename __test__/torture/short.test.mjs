// The short form of `npm run torture`: every target for ten seconds with a fixed seed, and only what holds on any machine, however slow.
// time limit: 300 s
import { describe, test } from "node:test"
import assert from "node:assert/strict"
import { torture } from "./torture.mjs"

const SEED = 20_240_601, SECONDS = 10

/** Targets that run one after the other, so that two at a time are at work. */
const LANES = [ [ "consul", "redis", "spm" ], [ "etcd", "pgsql", "mpm" ] ]

describe("clients under faults", { concurrency: true }, () => {
    for (const [ number, lane ] of LANES.entries())
        describe(`lane ${number + 1}`, { concurrency: 1 }, () => {
            for (const target of lane)
                test(`${target}: no two hold, tokens grow, every call ends, nothing is left`, async (t) => {
                    const { violations, counts, faults } = await torture({ target, seed: SEED, minutes: SECONDS / 60, timed: false, longest: 3000 })
                    t.diagnostic(`${target}: ${JSON.stringify(counts)}; ${[ ...faults ].map(([ name, count ]) => `${count} x ${name}`).join(", ")}`)
                    assert.deepEqual(violations, [])
                    assert.ok(counts.grants > 0, "nobody was granted anything")
                })
        })
})

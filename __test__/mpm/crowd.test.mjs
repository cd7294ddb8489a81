// Very many mutexes at a time.
import { test } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
const { Client } = require("../../lib/cluster/client.js")
const { Outbox } = require("../../lib/cluster/outbox.js")
const { ANSWER, ASK } = require("../../lib/cluster/frames.js")

test("forty thousand mutexes whose open() waits for the primary are introduced to it, beside what else is said in that turn", async () => {
    const frames = []
    const outbox = new Outbox((frame) => { frames.push(frame) })
    const client = new Client((words) => outbox.post(words), () => "")
    const count = 40_000
    const opening = Array.from({ length: count }, (_, at) => client.open({ id: `lock${at}` }))
    await new Promise(setImmediate)
    frames.length = 0
    outbox.post([ ASK.QUERY, 2, "lock" ])
    client.hear([ ANSWER.READY ], 0)
    await new Promise(setImmediate)
    const [ again ] = frames
    assert.deepEqual(again.slice(0, 4), [ ASK.QUERY, 2, "lock", ASK.HELLO ])
    assert.equal(again.filter((word) => typeof word === "string" && /^lock\d/.test(word)).length, count)
    client.hear([ ANSWER.ENDED ], 0)
    for (const { reason } of await Promise.allSettled(opening))
        assert.equal(reason.code, "ERR_PRIMARY")
})

// The two state machines by themselves: each transition takes place once, and says whether it did.
import { test } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
require("../../lib/port.js").attach()
const { LOCK, TRY_LOCK, Request } = require("../../lib/request.js")
const { DONE, Hold } = require("../../lib/hold.js")
const { Session } = require("../../lib/session.js")

/** A session over a model that does nothing by itself, and notes what it is asked. */
function begin () {
    const calls = []
    const session = new Session({ emit: () => {} }, "spm:x", { id: "x", model: "spm" }, undefined, false)
    session.model = {
        ask: () => calls.push("ask"), cancel: () => { calls.push("cancel") },
        release: () => {
            calls.push("release")
            return DONE
        }
    }
    return { session, calls }
}

const settled = (promise) => promise.then((value) => value, (error) => error)

const ANSWERS = {
    granted: (request) => request.granted(7, 1n),
    busy: (request) => request.busy(),
    failed: (request) => request.failed(new Error("failed")),
    withdrawn: (request) => request.withdraw(new Error("withdrawn"))
}

test("a request is answered or withdrawn once, whatever comes behind", async () => {
    for (const [ first, answer ] of Object.entries(ANSWERS))
        for (const [ second, again ] of Object.entries(ANSWERS)) {
            const { session, calls } = begin()
            const request = new Request(session, TRY_LOCK, { shared: false })
            const result = settled(request.send())
            assert.equal(session.requests.size, 1)
            assert.equal(answer(request), true, first)
            assert.equal(again(request), false, `${second} behind ${first}`)
            assert.equal(session.requests.size, 0)
            const value = await result
            assert.deepEqual(calls, first === "withdrawn" ? [ "ask", "cancel" ] : [ "ask" ])
            if (first === "granted")
                assert.equal(value.token, 1n)
            else if (first === "busy")
                assert.equal(value, null)
            else
                assert.equal(value.message, first)
        }
})

test("requests are withdrawn together, the last first, and those that are over are left alone", async () => {
    const { session } = begin()
    const cancelled = []
    session.model.cancel = (request) => {
        // Whoever is let in by this is none of them.
        for (const other of requests)
            assert.equal(other.granted(1), false)
        cancelled.push(requests.indexOf(request))
    }
    const requests = Array.from({ length: 4 }, () => new Request(session, LOCK, { shared: true }))
    const results = requests.map((request) => settled(request.send()))
    requests[1].failed(new Error("before"))
    assert.equal(Request.withdrawAll(requests, new Error("together")), 3)
    assert.deepEqual(cancelled, [ 3, 2, 0 ])
    assert.deepEqual((await Promise.all(results)).map(({ message }) => message), [ "together", "before", "together", "together" ])
})

const ENDS = {
    released: (hold) => hold.released(),
    lost: (hold) => hold.lose(new Error("lost")),
    closed: (hold) => hold.close(new Error("closed"))
}

test("a hold ends once, and what comes behind changes nothing", async () => {
    for (const [ first, end ] of Object.entries(ENDS))
        for (const [ second, again ] of Object.entries(ENDS)) {
            const { session, calls } = begin()
            const hold = new Hold(session, 1, false)
            assert.equal(end(hold), true)
            assert.equal(again(hold), false, `${second} behind ${first}`)
            assert.equal(hold.state, first)
            assert.equal(hold.reason?.message, first === "released" ? undefined : first)
            assert.equal(hold.signal.aborted, first !== "released")
            assert.equal(await settled(hold.release()), first === "lost" ? hold.reason : undefined)
            assert.ok(hold.release() === hold.release())
            assert.deepEqual(calls, [])
        }
})

test("a release that is called again while it is under way is the same", async () => {
    const { session, calls } = begin()
    const hold = new Hold(session, 1, false)
    let within
    session.model.release = () => {
        calls.push("release")
        within = hold.release()
        return DONE
    }
    const release = hold.release()
    assert.deepEqual(calls, [ "release" ])
    await Promise.all([ release, within, hold.release() ])
    assert.deepEqual([ hold.state, calls.length ], [ "released", 1 ])
})
